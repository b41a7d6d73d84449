"""Batch scoring: millions of pictures to one table, on one machine or on a Ray cluster, killed and resumed at will.

`sources` names the work, `plan` cuts it into shards, `reading` brings their pictures, `analysis` turns them into rows,
`parts` lands each shard at once, `local` and `cluster` are the two engines, `job` ties them together.
"""
