#!/usr/bin/env bash
# Builds sr3 with the feature `cuda` into target/cuda/release/sr3. Needs cargo, gcc, and python3 with venv and pip: the tool kit
# comes from PyPI and is laid out under target/cuda-toolkit, so that no root and no GPU are needed to build. To compute, a
# machine needs NVIDIA's driver; without it the same binary runs, and says that there is none. CUDA_COMPUTE_CAP names the
# GPU's generation (90 for H100 and H200). Arguments go to cargo. What it builds has not been run on a GPU yet, and no CI runs it.
set -euo pipefail
cd "$(dirname "$0")/.."

kit=$PWD/target/cuda-toolkit
if [ ! -e "$kit/complete" ]; then
  rm -rf "$kit"
  mkdir -p "$kit/lib64" "$kit/include"
  python3 -m venv "$kit/venv"
  "$kit/venv/bin/pip" install --quiet --no-deps nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88 'nvidia-cublas==13.*' 'nvidia-curand==10.*'
  packages=$(echo "$kit"/venv/lib/python3*/site-packages/nvidia/cu13)
  ln -s "$packages/bin" "$kit/bin"
  ln -s "$packages/nvvm" "$kit/nvvm"
  ln -s "$packages"/include/* "$kit/include/"
  ln -s "$packages"/lib/* "$kit/lib64/"
  ln -s lib64 "$kit/lib"
  # Linkers look for names without versions.
  for name in cublas cublasLt cudart curand nvrtc; do
    versioned=$(find "$kit/lib64/" -name "lib$name.so.*" | sort | head -n 1)
    ln -sf "$versioned" "$kit/lib64/lib$name.so"
  done
  touch "$kit/complete"
fi
"$kit/bin/nvcc" --version | tail -n 2

# The driver's library comes with the driver, and a binary that is linked to it does not start where there is none. So this
# takes its place: it looks for the driver when the program starts, and what is called of it is found then, name by name.
rm -rf "$kit/driver"
mkdir "$kit/driver"
gcc -O2 -fPIC -c -x c - -o "$kit/driver/driver.o" <<'C'
#include <dlfcn.h>

static void *driver;

__attribute__((constructor)) static void find(void) { driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_GLOBAL); }

static void *named(const char *name) { return driver ? dlsym(driver, name) : 0; }

/* What is called before it is known that there is a driver; 100 is CUDA_ERROR_NO_DEVICE. */
int cuInit(unsigned flags) {
  int (*init)(unsigned) = (int (*)(unsigned))named("cuInit");
  return init ? init(flags) : 100;
}

int cuGetErrorName(int error, const char **text) {
  int (*name)(int, const char **) = (int (*)(int, const char **))named("cuGetErrorName");
  *text = "CUDA_ERROR_NO_DEVICE";
  return name ? name(error, text) : 0;
}

int cuGetErrorString(int error, const char **text) {
  int (*string)(int, const char **) = (int (*)(int, const char **))named("cuGetErrorString");
  *text = "there is no libcuda.so.1, which comes with NVIDIA's driver";
  return string ? string(error, text) : 0;
}
C
ar rc "$kit/driver/libcuda.a" "$kit/driver/driver.o"

export CUDA_HOME=$kit CUDA_PATH=$kit CUDA_ROOT=$kit CUDA_TOOLKIT_ROOT_DIR=$kit CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90}
export PATH=$kit/bin:$PATH LIBRARY_PATH=$kit/lib64:$kit/driver
# Partial relocation: names of the driver are looked up when they are first called, not when the program starts.
export RUSTFLAGS="-L native=$kit/lib64 -L native=$kit/driver -C relro-level=partial -C link-arg=-Wl,-rpath,$kit/lib64 \
-C link-arg=-Wl,--unresolved-symbols=ignore-all"
cargo build --release --features cuda --target-dir target/cuda "$@"
echo "target/cuda/release/sr3 (CUDA's libraries are found in $kit/lib64)"
