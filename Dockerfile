# docker build -t transferbench .                                  (a GPU: --build-arg TORCH=BUILD, as uv names it)
# docker run --rm -v "$PWD/results:/work/results" transferbench bench
FROM python:3.12-slim
ARG TORCH=cpu
WORKDIR /opt/transferbench
COPY . .
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --torch-backend="$TORCH" --constraints constraints.txt ".[hub,onnx,slurm,train]" \
    && useradd --create-home --uid 1000 bench && mkdir /work && chown bench /work
USER 1000
WORKDIR /work
ENTRYPOINT ["transferbench"]
