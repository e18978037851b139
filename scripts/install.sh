#!/bin/sh
# Installs web-ipc from the archive that `cargo xtask dist` makes, and removes it again.
set -eu
# Whoever runs the program must be able to read it.
umask 022

usage() {
    cat <<'HELP'
Installs web-ipc from its archive

Usage: sh install.sh [--prefix DIR] [ARCHIVE]
       sh install.sh [--prefix DIR] --uninstall

  ARCHIVE       web-ipc-VERSION-TARGET.tar.gz; SHA256SUMS must be beside it
                [default: the unpacked archive that this script is in]
  --prefix DIR  where bin, lib and share are [default: /usr/local]
  --uninstall   remove what was installed there; homes are left alone
HELP
}

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

wrong() {
    echo "install.sh: $1" >&2
    usage >&2
    exit 2
}

prefix=/usr/local
archive=
uninstalls=no
while [ $# -gt 0 ]; do
    case $1 in
    --prefix)
        [ $# -ge 2 ] || wrong "--prefix needs a directory"
        prefix=$2
        shift
        ;;
    --prefix=*) prefix=${1#--prefix=} ;;
    --uninstall) uninstalls=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    -*) wrong "there is no option $1" ;;
    *)
        [ -z "$archive" ] || wrong "there is more than one archive"
        archive=$1
        ;;
    esac
    shift
done
case $prefix in
/*) ;;
*) wrong "the prefix must begin with /: $prefix" ;;
esac
# It becomes part of unit files, and of a script of sed.
case $prefix in
*[!A-Za-z0-9/._+@~-]*) wrong "the prefix may have letters, digits and /._+@~- only: $prefix" ;;
esac
prefix=${prefix%/}
# What was installed, one path a line, relative to the prefix; of a directory that was made for it with
# a slash at its end.
# Not in share/web-ipc: below ~/.local that is the default home.
list=$prefix/share/doc/web-ipc/installed

# Reads lines of SHA256SUMS.
check() {
    if command -v sha256sum >/dev/null; then
        sha256sum -c - >/dev/null
    elif command -v shasum >/dev/null; then
        shasum -a 256 --check --quiet - >&2
    else
        fail "neither sha256sum nor shasum is installed"
    fi
}

# Removes what a list names: files, then directories that are empty, from the deepest on.
remove() {
    LC_ALL=C sort -r "$1" | while IFS= read -r path; do
        case $path in
        */) rmdir "$prefix/$path" 2>/dev/null || true ;;
        *) rm -f "$prefix/$path" ;;
        esac
    done
}

# Makes a directory and its parents, and notes those that were not there.
make() {
    if [ "$1" != . ] && [ ! -d "$prefix/$1" ]; then
        make "$(dirname "$1")"
        mkdir "$prefix/$1"
        echo "$1/" >>"$work/made"
    fi
}

if [ "$uninstalls" = yes ]; then
    [ -z "$archive" ] || wrong "--uninstall takes no archive"
    [ -f "$list" ] || fail "nothing is installed in $prefix: $list is missing"
    copy=$(mktemp)
    trap 'rm -f "$copy"' EXIT
    # The list goes last, so that a removal that was cut short can be repeated.
    grep -v '/$' "$list" >"$copy" || true
    remove "$copy"
    grep '/$' "$list" >"$copy" || true
    rm -f "$list"
    remove "$copy"
    echo "Removed web-ipc from $prefix; homes are left alone"
    exit 0
fi

work=$(mktemp -d)
# Removes the file that was being written, and notes the directories that were made.
end() {
    [ ! -f "$work/unfinished" ] || rm -f "$(cat "$work/unfinished")"
    [ ! -f "$work/list" ] || [ -f "$work/done" ] || sort -u "$work/list" "$work/made" >"$list"
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ -n "$archive" ]; then
    [ -f "$archive" ] || fail "there is no archive $archive"
    folder=$(cd "$(dirname "$archive")" && pwd)
    name=$(basename "$archive")
    [ -f "$folder/SHA256SUMS" ] || fail "$folder/SHA256SUMS is missing, by which the archive is checked"
    line=$(grep -F "  $name" "$folder/SHA256SUMS" || true)
    [ -n "$line" ] || fail "SHA256SUMS does not name $name"
    (cd "$folder" && echo "$line" | check) || fail "$name is damaged or not the one that SHA256SUMS names"
    tar -xzf "$folder/$name" -C "$work"
    from=$work/${name%.tar.gz}
else
    from=$(cd "$(dirname "$0")" && pwd)
    [ -f "$from/SHA256SUMS" ] && [ -x "$from/bin/web-ipc" ] ||
        fail "this script is not in an unpacked archive; name the archive"
fi
(cd "$from" && check <SHA256SUMS) || fail "files of the archive are damaged or missing"

mkdir -p "$prefix" 2>/dev/null && [ -w "$prefix" ] ||
    fail "$prefix cannot be written; run this as root, or choose another --prefix"
(cd "$from" && find bin lib share \( -type f -o -type l \) | LC_ALL=C sort) >"$work/new"
[ ! -f "$list" ] || grep '/$' "$list" >"$work/made" || true
touch "$work/made"
# What an installation that is cut short has written can be removed by this list.
make share/doc/web-ipc
sort -u "$work/new" "$work/made" $([ ! -f "$list" ] || echo "$list") >"$work/list"
cp "$work/list" "$list"
while IFS= read -r path; do
    make "$(dirname "$path")"
    # A running program keeps its file: the new one takes the name.
    if [ -h "$from/$path" ]; then
        rm -f "$prefix/$path"
        cp -P "$from/$path" "$prefix/$path"
        continue
    fi
    new=$prefix/$path.new
    echo "$new" >"$work/unfinished"
    case $path in
    lib/systemd/system/*) sed "s|/usr/bin/web-ipc|$prefix/bin/web-ipc|" "$from/$path" >"$new" ;;
    *) cp "$from/$path" "$new" ;;
    esac
    case $path in
    bin/*) chmod 0755 "$new" ;;
    *) chmod 0644 "$new" ;;
    esac
    mv -f "$new" "$prefix/$path"
    rm "$work/unfinished"
done <"$work/new"
# Files of the version before that this one has no more.
if [ -f "$list" ]; then
    grep -v -x -F -f "$work/new" "$list" | grep -v '/$' >"$work/gone" || true
    remove "$work/gone"
fi
cat "$work/new" "$work/made" >"$list"
touch "$work/done"
"$prefix/bin/web-ipc" --version >/dev/null || fail "$prefix/bin/web-ipc does not run on this host"
echo "Installed $("$prefix/bin/web-ipc" --version) in $prefix"
