#!/bin/sh
# rustdoc of a stable toolchain, with JSON as an output format. `cargo xtask api` makes it cargo's
# rustdoc (RUSTDOC). RUSTC_BOOTSTRAP is set here and not for cargo: build scripts look at it, and
# the whole workspace would be built anew.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
