"""What a trained model is asked: `predict` (rasters of any size), `windows` (how they are cut)."""
