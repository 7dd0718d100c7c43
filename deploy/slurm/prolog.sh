#!/bin/sh
# Slurm Prolog (root, on each node of a job): notes when the job began and, where so configured, makes its own spool.
#
#     slurm.conf:  Prolog=/etc/slurm/tracker/prolog.sh
#
# It never fails: a prolog that does would drain the node, and a job runs well without Tracker.
set -u

conf=${TRACKER_SLURM_CONF:-/etc/tracker/slurm.conf}
# shellcheck source=deploy/slurm/tracker-slurm.conf
[ ! -r "$conf" ] || . "$conf"
job_spools=${TRACKER_SLURM_JOB_SPOOLS:-}
marks=${TRACKER_SLURM_MARKS:-/run/tracker-slurm}
# The agent's group, as the package makes it (packaging/sysusers.d).
group=${TRACKER_SLURM_GROUP:-tracker}

say() {
    logger --tag tracker-prolog -- "$*" 2>/dev/null || echo "tracker-prolog: $*" >&2
}

make_job_spool() {
    top=$job_spools/$SLURM_JOB_ID
    mkdir -p "$job_spools" || return
    # Root's, so that nobody but the epilog can rename what is in it.
    mkdir "$top" 2>/dev/null || [ -d "$top/spool" ] || return
    [ -d "$top/spool" ] || mkdir -m 0700 "$top/spool" || return
    # The user's own, and the agent's to read and remove, whatever the user's umask.
    setfacl -m "g:$group:rwx,d:u::rwx,d:g::---,d:g:$group:rwx,d:m::rwx,d:o::---" "$top/spool" || return
    chown "$SLURM_JOB_UID:${SLURM_JOB_GID:-$(id -g "$SLURM_JOB_UID")}" "$top/spool"
}

case ${SLURM_JOB_ID:-}:${SLURM_JOB_UID:-} in
    :* | *: | *[!0-9:]*)
        say "SLURM_JOB_ID is '${SLURM_JOB_ID:-}', SLURM_JOB_UID '${SLURM_JOB_UID:-}': run by hand? Nothing is done."
        exit 0
        ;;
esac
umask 022
if ! { mkdir -p "$marks" && : >"$marks/$SLURM_JOB_ID"; }; then
    say "job $SLURM_JOB_ID: cannot write $marks: the epilog will not wait for its runs; the agent ships them all the same"
fi
if [ -n "$job_spools" ] && ! make_job_spool; then
    say "job $SLURM_JOB_ID: cannot make $job_spools/$SLURM_JOB_ID/spool: the job uses the spool of all users"
    rmdir "$job_spools/$SLURM_JOB_ID/spool" "$job_spools/$SLURM_JOB_ID" 2>/dev/null
fi
exit 0
