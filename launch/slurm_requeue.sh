#!/usr/bin/env bash
# Runs a command as the whole of a Slurm batch job, and requeues the job if the command has to run again.
#
#   exec launch/slurm_requeue.sh COMMAND...
#
# Slurm sends SIGTERM to the batch shell before the time limit (--signal=B:TERM@...). It is passed on to the command
# once. The job is requeued if the command then ends with
#
#   75   it was stopped, and its work is saved; or
#   4    what is left is in use by other jobs; the job starts again after RETRY_MINUTES (default: 5).
#
# Any other exit code becomes the job's own. A job that Slurm is already ending, as after scancel, is left alone.
set -euo pipefail

# The ID of this task only: in the last task of an array, SLURM_JOB_ID stands for the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

say() { echo "[$(date '+%F %T')] job $job: $*"; }

child='' stopped='' interrupted='' passed_on=''
stop() {
  stopped=1 interrupted=1
  if [[ -n $child && -z $passed_on ]]; then
    passed_on=1
    kill -TERM "$child" 2>/dev/null || true # it may have ended
  fi
}
trap stop TERM

say "attempt $((${SLURM_RESTART_COUNT:-0} + 1)) on ${SLURMD_NODENAME:-$(hostname)}"
"$@" &
child=$!
[[ -z $stopped ]] || stop # the signal came before there was a child
while interrupted='' code=0; do
  wait "$child" || code=$?
  [[ -n $interrupted ]] || break
done
[[ -z $stopped ]] || ((code != 128 + 15)) || code=75 # the signal came before the command could handle it

trap '' TERM # which `scontrol requeue` sends
state=$(squeue --noheader --jobs="$job" --format=%T) || state=''
if ((code != 75 && code != 4)); then
  say "ended with exit code $code"
elif [[ -z $state ]]; then
  say "ended with exit code $code, and could not be requeued, because squeue does not answer: submit it again to go on"
elif [[ $state != RUNNING ]]; then
  say "ended with exit code $code, because Slurm ended the job (scancel, requeue or preemption): not requeued from here"
elif ! scontrol requeue "$job"; then
  say "ended with exit code $code, and could not be requeued: submit it again to go on"
elif ((code == 4)) && scontrol update JobId="$job" StartTime="now+${RETRY_MINUTES:-5}minutes"; then
  say "requeued, to start in ${RETRY_MINUTES:-5} minutes: all that is left is in use by other jobs"
else
  say "requeued, to go on where it stopped"
fi
exit "$code"
