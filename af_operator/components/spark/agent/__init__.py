"""Runs beside the Spark master, in its pod: lets workers go without losing blocks, and says how many are needed.

One request, ``POST /af/v1/pools``, says what should be, and is answered at once with what is, if it shows the session's
token (``Authorization: Bearer …``): whoever asks could let all workers go. Asking again is always right: the master
knows who was told to go, and what is remembered here is what it forgets when it starts again.

    {"pools": {"zmumu-spark-cpu-1a2b3c": {"keep": 2, "threads": 1, "quiet": 30, "drain": 60}}}
    {"pools": {"zmumu-spark-cpu-1a2b3c": {"wanted": 0, "workers": [], "retiring": [], "retired": [], "stuck": []}},
     "active": 1795700100, "lost": 0}

``POST /af/v1/scale`` is for whoever works in the session, ``{"pool": "cpu", "workers": 2}``: so many are wanted,
whatever the tasks ask for, until ``{"pool": "cpu", "workers": null}``.

A pool is known by the name of its group of workers, which are called ``<group>-worker-<hex>``; a worker says that name
where Spark wants the host of its UI (``SPARK_PUBLIC_DNS``). `keep` is how many workers may stay; the others are chosen
here (idle first, then fewest bytes) and decommissioned: their executors take no new tasks, finish what they run, move
their blocks to others, and exit. In `retired` stands who has no executor left, or has had its time (`drain`): Spark
makes anew what is lost then, so nobody is ever `stuck`. `lost` counts workers that ended without having been told to;
for that it looks at the master every few seconds, also while nobody asks.

It needs nothing but Python, so that it runs in any image that has Spark. Drivers and workers are the users' own
programs: nothing that they say is trusted to be there, to be of its type, or to come in time.
"""
