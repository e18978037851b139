#!/bin/sh
# Runs a PostgreSQL of its own in a new directory, for tests, and removes both when its stdin ends,
# however the test ends.
#
# Usage: sh cluster.sh BIN [PORT [CERTIFICATE KEY [ADDRESS]]]
# It listens on a Unix socket alone, where everybody is trusted; with a port also on 127.0.0.1, where
# everybody is trusted too, or with a certificate on 127.0.0.1 or another address of IPv4, with TLS
# and scram-sha-256. Each line of stdin is a command: start, stop, kill (SIGKILL). Each line of stdout
# is its answer: `socket DIR` first, then `done` or `failed`.
set -u
bin=$1 port=${2:-} address=${5:-127.0.0.1}
if [ "$(id -u)" -eq 0 ]; then
    as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
else
    as_postgres() { "$@"; }
fi
dir=$(as_postgres mktemp -d /tmp/web-ipc-postgres.XXXXXX) || exit 1
trap 'as_postgres "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$dir"' EXIT
cd "$dir" || exit 1
as_postgres "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null || exit 1
options="-c fsync=off -c unix_socket_directories=$dir -c max_connections=200"
if [ $# -eq 2 ]; then
    printf 'local all all trust\nhost all all 127.0.0.1/32 trust\n' >"$dir/data/pg_hba.conf"
    options="$options -c listen_addresses=127.0.0.1 -c port=$port"
elif [ -n "$port" ]; then
    cp "$3" "$dir/server.crt" && cp "$4" "$dir/server.key" && chmod 600 "$dir/server.key"
    [ "$(id -u)" -ne 0 ] || chown postgres "$dir/server.crt" "$dir/server.key"
    printf 'local all all trust\nhostssl all all 0.0.0.0/0 scram-sha-256\n' >"$dir/data/pg_hba.conf"
    options="$options -c listen_addresses=$address -c port=$port -c ssl=on -c ssl_cert_file=$dir/server.crt -c ssl_key_file=$dir/server.key"
else
    options="$options -c listen_addresses="
fi
echo "socket $dir"
while read -r command; do
    case $command in
        start) as_postgres "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "$options" -w start >/dev/null 2>&1 ;;
        stop) as_postgres "$bin/pg_ctl" -D "$dir/data" -m fast -w stop >/dev/null 2>&1 ;;
        kill) kill -9 "$(head -n 1 "$dir/data/postmaster.pid")" ;;
        *) false ;;
    esac && echo "done" || echo failed
done
