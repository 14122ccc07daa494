"""Answers the cache, file by file at open, whether what is read is worth keeping: a model of the session is asked.

The cache's plugin (``decision.cc``) sends a line over a UNIX socket and waits for one byte, for 50 ms at most::

    miss /store/mc/Run2/DYJets/NANOAODSIM/v1/0001/f.root      keep: "1", past the cache: "0"
    hit /store/...                                            no answer: what is on disk is read from there

`history` makes of a path what the model is asked with, `model` asks it, `policy` decides, `server` listens. It needs
nothing but Python. Whatever goes wrong, the answer is "keep": the cache is then as it is without any of this.
"""
