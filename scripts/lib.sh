# Sourced by the scripts beside it. Sets $root, the folder of the checkout.
#
# environment NAME PIP-ARGUMENT...: sets $PYTHON to the python of build/NAME, a virtual environment with the project
# (editable, with onnxruntime) and what the pip arguments add. It is kept until these, pyproject.toml or python change.

root=$(cd "$(dirname "$0")/.." && pwd)

_python3() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    found=$(python3 -V 2>&1) || found="no python3"
    echo "onnxcam needs Python 3.11 or newer, and here is $found. Install one and try again." >&2
    return 1
}

_new_environment() {
    if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "Python's venv module is missing here. On Debian or Ubuntu: apt install python3-venv. Then try again." >&2
        return 1
    fi
    rm -rf "$2"
    "$1" -m venv "$2"
}

environment() {
    _folder="$root/build/$1"
    shift
    PYTHON="$_folder/bin/python"
    _python=$(_python3) || exit 1
    _recipe="$_folder $("$_python" -V) $* $(cat "$root/pyproject.toml")"
    [ "$(cat "$_folder/recipe" 2>/dev/null)" = "$_recipe" ] && [ -x "$PYTHON" ] && return
    echo "Installing onnxcam into $_folder; this is done once." >&2
    mkdir -p "$root/build"
    _new_environment "$_python" "$_folder" || exit 1
    if ! { "$PYTHON" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" &&
        "$PYTHON" -m pip install --quiet --editable "$root[cpu]" "$@"; } </dev/null; then
        echo "The installation into $_folder failed; what pip says is above." >&2
        exit 1
    fi
    printf '%s' "$_recipe" >"$_folder/recipe"
}

# What the comparisons need beside the project.
TORCH="torch==2.14.1 torchvision==0.29.1 onnxscript>=0.7 grad-cam==1.5.7 torchcam==0.5.0"
KERAS="tensorflow-cpu==2.21.0 keras==3.15.1 tf2onnx==1.17.0"
PREPROCESSING="pillow<13 timm==1.0.31 transformers==5.23.0 ultralytics==8.4.190 open_clip_torch==3.3.0 keras==3.15.1"
OPTIMUM="optimum-onnx==0.1.0 optimum==2.1.0 transformers==4.57.6"
SWEEP="timm==1.0.31 keras==3.15.1 scikit-learn==1.9.1 scikit-image==0.26.0"
