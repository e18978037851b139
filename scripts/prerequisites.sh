#!/bin/sh
# Says what this machine still needs to build web-ipc, and installs it with --install.
#
# A build needs Rust (cargo), a C compiler with the C library's headers (SQLite, ring, OpenSSL), make and perl (OpenSSL's own
# build). Known systems: Debian and Ubuntu (apt-get), Fedora and its relatives (dnf), Arch (pacman), macOS (xcode-select).
#
# Exit status: 0 nothing is missing, 1 something is, 2 wrong usage.
set -u

usage() {
    cat <<'END'
Usage: sh scripts/prerequisites.sh [--install]

Says what this machine still needs to build web-ipc; installs it with --install.
END
}

install=no
for argument in "$@"; do
    case $argument in
        --install) install=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            echo "unknown option: $argument" >&2
            usage >&2
            exit 2
            ;;
    esac
done

have() {
    command -v "$1" >/dev/null 2>&1
}

# A compiler without the C library's headers is no use: try both.
compiles_c() {
    have cc || return 1
    object=$(mktemp) || return 1
    printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' |
        cc -x c -c -o "$object" - >/dev/null 2>&1
    compiled=$?
    rm -f "$object"
    return $compiled
}

# The modules that OpenSSL's Configure uses; some systems package them apart from perl itself.
perl_is_whole() {
    have perl && perl -MFindBin -MIPC::Cmd -MFile::Compare -MFile::Copy -MTime::Piece -e 1 >/dev/null 2>&1
}

# Sets `missing` to the names of what is not there: cc, make, perl.
look() {
    missing=
    compiles_c || missing="$missing cc"
    have make || missing="$missing make"
    perl_is_whole || missing="$missing perl"
}

# The packages of this system for what is missing, by the name of its installer.
packages() {
    for part in $missing; do
        case $1-$part in
            apt-get-cc) printf ' gcc libc6-dev' ;;
            dnf-cc) printf ' gcc glibc-devel' ;;
            pacman-cc) printf ' gcc' ;;
            dnf-perl) printf ' perl-core' ;;
            *) printf ' %s' "$part" ;;
        esac
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        echo "this needs root, and there is no sudo: $*" >&2
        return 1
    fi
}

installer() {
    if [ "$(uname -s)" = Darwin ]; then
        echo xcode-select
    elif have apt-get; then
        echo apt-get
    elif have dnf; then
        echo dnf
    elif have pacman; then
        echo pacman
    else
        echo none
    fi
}

# The command that installs what is missing, for a person to read.
advice() {
    case $1 in
        apt-get) echo "apt-get install$(packages apt-get)" ;;
        dnf) echo "dnf install$(packages dnf)" ;;
        pacman) echo "pacman -S$(packages pacman)" ;;
        xcode-select) echo "xcode-select --install" ;;
        none) echo "install a C compiler with its headers, make and perl with this system's package manager" ;;
    esac
}

install_missing() {
    # The list of packages is split on purpose.
    # shellcheck disable=SC2046
    case $1 in
        apt-get)
            as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq &&
                as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(packages apt-get)
            ;;
        dnf) as_root dnf install -y $(packages dnf) ;;
        pacman) as_root pacman -S --noconfirm --needed $(packages pacman) ;;
        xcode-select)
            xcode-select --install
            echo "a window has opened; run this script again when it is done" >&2
            ;;
        none)
            echo "this system's package manager is not known to this script" >&2
            return 1
            ;;
    esac
}

look
with=$(installer)
if [ -n "$missing" ] && [ $install = yes ]; then
    echo "installing:$missing"
    install_missing "$with"
    look
fi

status=0
if [ -n "$missing" ]; then
    echo "missing:$missing"
    echo "  $(advice "$with")"
    [ $install = yes ] || echo "  or: sh scripts/prerequisites.sh --install"
    status=1
fi
# Rust is the reader's choice of toolchain: it is said, not installed.
if ! have cargo; then
    echo "missing: cargo"
    echo "  install Rust as https://rustup.rs says"
    status=1
fi
[ $status -ne 0 ] || echo "nothing is missing"
exit $status
