"""What every stage speaks: grids, the nouns, options, the workspace, reports."""
