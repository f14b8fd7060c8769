# Sourced by the scripts beside it.
#
# environment NAME PACKAGE...: sets $PYTHON to the python of build/NAME, a virtual environment with the project (editable,
# with onnxruntime) and these packages. It is made where it is missing, and again where the packages are others.

root=$(cd "$(dirname "$0")/.." && pwd)

environment() {
    folder="$root/build/$1"
    shift
    PYTHON="$folder/bin/python"
    if [ "$(cat "$folder/packages" 2>/dev/null)" != "$*" ]; then
        echo "Installing $* into $folder" >&2
        rm -rf "$folder"
        python3 -m venv "$folder"
        "$PYTHON" -m pip install --quiet --editable "$root[cpu]" "$@"
        printf '%s' "$*" >"$folder/packages"
    fi
}

TORCH="torch==2.14.1 torchvision==0.29.1 onnxscript>=0.7 grad-cam==1.5.7 torchcam==0.5.0"
KERAS="tensorflow-cpu==2.21.0 keras==3.15.1 tf2onnx==1.17.0"
