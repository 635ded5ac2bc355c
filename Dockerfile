# simengine on CPUs: docker build -t simengine . && docker run --rm -v "$PWD:/work" simengine demo
FROM python:3.12-slim
WORKDIR /opt/simengine
COPY constraints.txt pyproject.toml README.md LICENSE MANIFEST.in ./
RUN python -m pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
COPY simengine simengine
COPY kernels kernels
COPY scenes scenes
COPY assets assets
RUN python -m pip install --no-cache-dir -c constraints.txt '.[bayes,taichi,video]'
WORKDIR /work
ENTRYPOINT ["simengine"]
