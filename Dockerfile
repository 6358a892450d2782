# docker build -t las . && docker run --rm -v "$PWD:/data" las build demo
# GDAL, PROJ and GEOS come inside the wheels of rasterio, pyproj and shapely: nothing is installed by apt.
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE /src/
COPY las_builder /src/las_builder
COPY catalogs /src/catalogs
COPY pipelines /src/pipelines
RUN pip install --no-cache-dir "/src[export,hub]" && rm -r /src && useradd --create-home las

# Compiled kernels of the virtual Earth and of regridding are kept for the time of the container.
ENV NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib PYTHONUNBUFFERED=1
USER las
WORKDIR /data
ENTRYPOINT ["las"]
CMD ["--help"]
