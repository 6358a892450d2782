"""LandSegmenter: any bands in, any class names out.

`config` (sizes; no torch), `inputs` (statistics of the towers), `hiera` (SAM2.1), `spectral` (DOFA),
`frequency`, `fusion`, `decoder`, `text` (class names to vectors), `segmenter` (the model),
`checkpoint` (official weights key by key; our own files). Curation never imports this package;
importing any module of it but `config` imports torch.
"""
