"""The arena compares methods, countermeasures, networks and seeds on one source, and makes a leaderboard.

Pure but for what its name says: `grid` (what is asked for) -> `plan` (the jobs that are missing) -> `rows` (what they
found) -> `leaderboard` (means and shares) -> `markdown` and `page` (text; their words are in `wording`). `estimate`
says how long the rest takes, `folder` knows the files of an arena. `ugejax/app/cli/arena.py` ties them together, and
`ugejax/app/cli/arena_job.py` does a job.
"""
