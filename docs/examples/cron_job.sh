#!/bin/sh
# Reports the free space of a disk, as a cron job:
#
#     15 3 * * * SPOOL=/var/lib/report/spool /usr/local/bin/cron_job.sh --ip 10.0.0.1
#
# The arguments are options of `web-ipc --send`. A job that went well says nothing, so cron sends no
# mail. What the server did not take stays in the file SPOOL, and goes with the next run. Each report
# has an id, so that none is delivered twice, even if it is not known what became of it.
set -eu
spool=${SPOOL:?it names the file for reports that are to be sent}

# Two runs at once would send and remove each other's reports.
exec 9>"$spool.lock"
flock -n 9 || exit 0

id=$(cat /proc/sys/kernel/random/uuid)
free=$(df -Pk / | awk 'NR == 2 { print $4 }')
printf '{"id":"%s","at":"%s","free_kib":%s}\n' "$id" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$free" >>"$spool"

status=0
said=$(web-ipc --quiet --send --idKey id "$@" <"$spool" 2>&1) || status=$?
case $status in
    0) rm "$spool" ;;
    # The server cannot be reached, or it is not known what became of a report: the next run sends
    # them again.
    69 | 75) ;;
    # A report is refused for good: keep it for somebody to look at, and go on without it.
    65) mv "$spool" "$spool.refused.$id" && printf '%s\n' "$said" >&2 && exit 65 ;;
    # The certificate, user or password is refused, or something else is wrong. Cron sends what is
    # said here.
    *) printf '%s\n' "$said" >&2 && exit "$status" ;;
esac
