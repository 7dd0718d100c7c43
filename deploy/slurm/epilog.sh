#!/bin/sh
# Slurm Epilog (root, on each node of a job): waits a bounded time until the server has the job's runs.
#
#     slurm.conf:  Epilog=/etc/slurm/tracker/epilog.sh
#
# What takes longer is the agent's: it goes on by itself, also after a restart, and loses nothing. The wait is for
# nodes that are switched off, or wiped, after a job. It never fails: that would drain the node.
set -u

conf=${TRACKER_SLURM_CONF:-/etc/tracker/slurm.conf}
# shellcheck source=deploy/slurm/tracker-slurm.conf
[ ! -r "$conf" ] || . "$conf"
spool=${TRACKER_SLURM_SPOOL:-/var/spool/tracker}
job_spools=${TRACKER_SLURM_JOB_SPOOLS:-}
marks=${TRACKER_SLURM_MARKS:-/run/tracker-slurm}
wait_s=${TRACKER_SLURM_WAIT_S:-60}
keep_days=${TRACKER_SLURM_KEEP_DAYS:-7}
agent=${TRACKER_SLURM_AGENT:-/usr/bin/tracker-agent}
state=${TRACKER_SLURM_STATE:-/var/lib/tracker-agent}

say() {
    logger --tag tracker-epilog -- "$*" 2>/dev/null || echo "tracker-epilog: $*" >&2
}

# Hand run directories (on stdin, each ended by NUL) to the agent; wait until the server has them, $1 seconds at most.
ship() {
    timeout --signal=INT --kill-after=5 "$1" xargs -0 -r "$agent" sync --wait --state-dir "$state" >/dev/null 2>&1
}

# Print the run directories that this job's user wrote to since the job began, in the spool of all users.
runs_since() {
    for directory in "$spool/$SLURM_JOB_UID" "$spool/$SLURM_JOB_UID"-*; do
        [ -d "$directory" ] && [ ! -L "$directory" ] || continue
        find "$directory" -mindepth 2 -maxdepth 2 -uid "$SLURM_JOB_UID" -type f -name '*.mpl' -newer "$1" -printf '%h\0'
    done | sort -zu
}

# Print the run directories in a job's own spool.
runs_in() {
    find "$1" -mindepth 3 -maxdepth 3 -type f -name '*.mpl' -printf '%h\0' | sort -zu
}

# Ship a job's own spool, waiting $2 seconds at most; note when the server has all of it.
ship_job_spool() {
    if runs_in "$1/spool" | ship "$2"; then
        : >"$1/shipped"
    else
        say "job ${1##*/}: not all of $1/spool is on the server yet; the agent goes on, the directory stays"
        return 1
    fi
}

# Ship what earlier jobs left and the agent had no time for; remove what was shipped long ago. `rm` follows no links.
sweep() {
    for top in "$job_spools"/*; do
        [ -d "$top/spool" ] && [ "$top" != "$job_spools/$SLURM_JOB_ID" ] && [ ! -e "$marks/${top##*/}" ] || continue
        if [ ! -e "$top/shipped" ]; then
            ship_job_spool "$top" 5
            return # one at a time: the wait is bounded
        elif [ -n "$(find "$top/shipped" -mtime "+$keep_days")" ] || [ -z "$(ls -A "$top/spool")" ]; then
            rm -rf --one-file-system -- "$top"
        fi
    done
}

case ${SLURM_JOB_ID:-}:${SLURM_JOB_UID:-} in
    :* | *: | *[!0-9:]*)
        say "SLURM_JOB_ID is '${SLURM_JOB_ID:-}', SLURM_JOB_UID '${SLURM_JOB_UID:-}': run by hand? Nothing is done."
        exit 0
        ;;
esac
mark=$marks/$SLURM_JOB_ID
if ! timeout 10 "$agent" status --state-dir "$state" >/dev/null 2>&1; then
    say "job $SLURM_JOB_ID: no agent answers on this node; its runs stay in the spool until one does"
    rm -f "$mark"
    exit 0
fi
if [ -e "$mark" ]; then
    runs_since "$mark" | ship "$wait_s" ||
        say "job $SLURM_JOB_ID: not all runs are on the server after $wait_s s; the agent goes on"
    rm -f "$mark"
fi
if [ -n "$job_spools" ] && [ -d "$job_spools" ]; then
    [ ! -d "$job_spools/$SLURM_JOB_ID/spool" ] || ship_job_spool "$job_spools/$SLURM_JOB_ID" "$wait_s"
    sweep
fi
exit 0
