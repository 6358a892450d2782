"""What a trained model is asked: `predict` (rasters of any size), `zero_shot` (benchmarks), `windows` (how
they are cut).
"""
