#!/usr/bin/env bash
# Builds libquorate and installs it: bash ffi/install.sh --prefix /usr/local
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: ffi/install.sh --prefix DIR [--libdir DIR] [--destdir DIR] [--profile dev|release]" >&2
  exit 2
}

prefix= libdir= destdir= profile=release
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case "$1" in
    --prefix) prefix=$2 ;;
    --libdir) libdir=$2 ;;
    --destdir) destdir=$2 ;;
    --profile) profile=$2 ;;
    *) usage ;;
  esac
  shift 2
done
case "$prefix" in /*) ;; *) echo "ffi/install.sh: --prefix must be an absolute path" >&2; exit 2 ;; esac
libdir=${libdir:-$prefix/lib}

cargo build --locked -p quorate-ffi --profile "$profile"
target=${CARGO_TARGET_DIR:-target}
case "$profile" in dev) built=$target/debug ;; *) built=$target/$profile ;; esac
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# What stands in the installed files points from them to the others, so that the prefix can move.
from() { realpath -m -s --relative-to="$1" "$2"; }
fill() {
  sed -e "s|@VERSION@|$version|g" \
    -e "s|@PC_PREFIX@|$(from "$libdir/pkgconfig" "$prefix")|g" \
    -e "s|@PC_LIBDIR@|$(from "$prefix" "$libdir")|g" \
    -e "s|@CMAKE_PREFIX@|$(from "$libdir/cmake/quorate" "$prefix")|g" \
    -e "s|@CMAKE_LIBDIR@|$(from "$libdir/cmake/quorate" "$libdir")|g" "$1"
}

lib=$destdir$libdir include=$destdir$prefix/include
mkdir -p "$lib/pkgconfig" "$lib/cmake/quorate" "$include"
install -m 755 "$built/libquorate.so" "$lib/libquorate.so.$version"
ln -sf "libquorate.so.$version" "$lib/libquorate.so.0"
ln -sf libquorate.so.0 "$lib/libquorate.so"
install -m 644 "$built/libquorate.a" "$lib/libquorate.a"
install -m 644 include/quorate.h include/quorate.hpp "$include/"
fill ffi/packaging/quorate.pc.in > "$lib/pkgconfig/quorate.pc"
fill ffi/packaging/quorateConfig.cmake.in > "$lib/cmake/quorate/quorateConfig.cmake"
fill ffi/packaging/quorateConfigVersion.cmake.in > "$lib/cmake/quorate/quorateConfigVersion.cmake"
echo "installed libquorate $version in $destdir$prefix"
