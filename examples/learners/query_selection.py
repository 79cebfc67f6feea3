"""Questions to a selection, by polars and duckdb: what was dropped, and why. vaco_curate is not needed here.

vaco-curate filter RUN --top 50% --out half
python query_selection.py half
"""

import sys

import duckdb
import polars as pl

selection = pl.read_parquet(f"{sys.argv[1]}/_selection.pq")
print(selection.group_by("reason").len().sort("len"))

episodes = selection.group_by("episode_id").agg(pl.col("keep").mean().alias("kept"), pl.col("score").mean())
print(episodes.sort("kept", "episode_id").head(5))

kept = f"{sys.argv[1]}/data/*.parquet"
print(duckdb.sql(f"select count(*) as rows, avg(reward) as reward from '{kept}'"))
