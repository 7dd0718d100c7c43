#!/bin/sh
# Slurm TaskProlog (the user, before each task): what it prints as "export NAME=value" is set in the task.
#
#     slurm.conf:  TaskProlog=/etc/slurm/tracker/task-prolog.sh
#
# What the user has set himself stays. Job id, nodes, partition and the like need no variable: every run records
# them by itself.
set -u

conf=${TRACKER_SLURM_CONF:-/etc/tracker/slurm.conf}
# shellcheck source=deploy/slurm/tracker-slurm.conf
[ ! -r "$conf" ] || . "$conf"
own=${TRACKER_SLURM_JOB_SPOOLS:-}/${SLURM_JOB_ID:-}/spool

if [ -n "${TRACKER_SLURM_JOB_SPOOLS:-}" ] && [ -z "${TRACKER_DIR:-}" ] && [ -w "$own" ]; then
    echo "export TRACKER_DIR=$own"
fi
# The runs of a job, or of a whole array, stand together in the web UI.
if [ -z "${TRACKER_GROUP:-}" ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    echo "export TRACKER_GROUP=slurm-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
fi
# Ranks of one step, on however many nodes, are one run. The batch script is no such step.
if [ "${TRACKER_SLURM_ONE_RUN:-0}" = 1 ] && [ -z "${TRACKER_RUN_ID:-}" ] && [ "${SLURM_NTASKS:-1}" -gt 1 ] 2>/dev/null; then
    case ${SLURM_STEP_ID:-} in
        '' | *[!0-9]* | ????????*) ;; # none, or a number that stands for the batch script
        *) echo "export TRACKER_RUN_ID=slurm-$SLURM_JOB_ID-$SLURM_STEP_ID${SLURM_RESTART_COUNT:+-$SLURM_RESTART_COUNT}" ;;
    esac
fi
exit 0
