"""From accesses to what a classifier sees, in SQL that any engine understands.

Whether a data set is popular in a week is to be known before that week begins. So every feature comes from a window
over the weeks of its data set that ends one row before the week itself: what is predicted cannot get into it.
"""

POPULAR = 10
"""Popular is what has more accesses in a week, as in the CMS study of 2015."""
WINDOWS = (1, 2, 4, 13)  # weeks
TIERS = ("USER", "AODSIM", "MINIAODSIM", "AOD", "MINIAOD")

WEEKLY = """
SELECT week, dataset, MIN(tier) AS tier,
       COUNT(*) AS accesses, COUNT(DISTINCT user) AS users, SUM(cpu_seconds) AS cpu_seconds
FROM accesses
GROUP BY week, dataset
"""

# A row for each week from the first on in which the data set was seen, also for those without an access.
_DENSE = """
SELECT seen.dataset, seen.tier, weeks.week, weeks.week - seen.first AS weeks_known,
       COALESCE(accesses, 0) AS accesses, COALESCE(users, 0) AS users, COALESCE(cpu_seconds, 0) AS cpu_seconds
FROM (SELECT dataset, MIN(tier) AS tier, MIN(week) AS first FROM weekly GROUP BY dataset) AS seen
JOIN (SELECT DISTINCT week FROM weekly) AS weeks ON weeks.week >= seen.first
LEFT JOIN weekly ON weekly.dataset = seen.dataset AND weekly.week = weeks.week
"""

# Counts have a heavy tail, so it is their logarithm that a classifier sees.
_SUMS = {
    f"{what}_{weeks}": f"LN(1 + SUM({what}) OVER last_{weeks})"
    for what in ("accesses", "users", "cpu_seconds")
    for weeks in WINDOWS
}
_HISTORY = {
    "active_weeks_13": "SUM(CASE WHEN accesses > 0 THEN 1 ELSE 0 END) OVER last_13",
    "popular_weeks_4": f"SUM(CASE WHEN accesses > {POPULAR} THEN 1 ELSE 0 END) OVER last_4",
    "popular_weeks_13": f"SUM(CASE WHEN accesses > {POPULAR} THEN 1 ELSE 0 END) OVER last_13",
    "peak_13": "LN(1 + MAX(accesses) OVER last_13)",
    "age": "LN(1 + weeks_known)",
}
_TIERS = {f"is_{tier.lower()}": f"CASE WHEN tier = '{tier}' THEN 1 ELSE 0 END" for tier in TIERS[1:]}
_ALL = _SUMS | _HISTORY | _TIERS
NAMES = tuple(_ALL)

_COLUMNS = ",\n         ".join(f"CAST({value} AS DOUBLE) AS {name}" for name, value in _ALL.items())
_WINDOWS = ",\n         ".join(
    f"last_{weeks} AS (PARTITION BY dataset ORDER BY week ROWS BETWEEN {weeks} PRECEDING AND 1 PRECEDING)"
    for weeks in WINDOWS
)
FEATURES = f"""
SELECT * FROM (
  SELECT dataset, week, weeks_known, accesses, SUM(accesses) OVER last_1 AS accesses_before,
         CASE WHEN accesses > {POPULAR} THEN 1 ELSE 0 END AS popular,
         {_COLUMNS}
  FROM ({_DENSE}) AS dense
  WINDOW {_WINDOWS}
) AS known
WHERE weeks_known > 0
"""  # noqa: S608 - nothing in it comes from outside
