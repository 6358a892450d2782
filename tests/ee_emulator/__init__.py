"""Earth Engine on the loopback: what we and a careful user ask of it, worked out on GeoTIFFs.

It shares no code with `las_builder`, so that it can be its oracle. What it takes Earth Engine to do
where no document says so is numbered in `catalogs/earth-engine/assumptions.yaml`; comments name the
rows. What it does not know is an error, never a guess.
"""
