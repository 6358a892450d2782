"""Training of LandSegmenter on shards.

`config` (what a run is; no torch), `schedule` (which samples make which step; no torch), `data`
(shards as samples, samples as batches), `augment`, `losses`, `metrics`, `state` (checkpoints), `loop`,
`report`.
"""
