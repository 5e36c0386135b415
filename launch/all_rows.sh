#!/usr/bin/env bash
# Runs rows of the paper one after the other, and sums up at the end. Several of these may work on one list at once.
set -euo pipefail
((BASH_VERSINFO[0] >= 5)) || { echo "error: bash $BASH_VERSION is too old: install bash 5" >&2; exit 2; }
shopt -s inherit_errexit

usage="launch/all_rows.sh [ROW[:smoke]...] [OPTIONS] [-- --config.FIELD=VALUE...]

Runs rows one after the other: names of rows or groups (all, cifar10, cats_vs_dogs, plant_pathology, xray), default all.
Finished rows are skipped. What fails is named, and the rest goes on. A row whose teacher another run is training, or
that another worker runs, is put off. Start this script several times, on one file system, to share the work.

  --runs=DIR   folder of the rows' folders and logs (default: runs)
  --estimate   estimate the time, memory and disk space of all rows; train nothing
  --anyway     run what can run, although some rows lack something
  --nowait     end when all that is left is in use by other workers, instead of waiting for it
  -- ...       settings of each row, such as --config.seed=1, and --minutes_between_saves

Environment: PYTHON (default: python), RETRY_SECONDS between attempts at a busy row (default: 30).

Exit codes: 0 all rows are finished; 1 a row failed; 2 a row lacks something, or bad usage; 4 rows are left to other
workers (--nowait); 75 stopped by SIGTERM or Ctrl-C: the same command goes on."

python=${PYTHON:-python}
retry_seconds=${RETRY_SECONDS:-30}
runs=runs
estimate='' anyway='' nowait=''
rows=() settings=()
while (($#)); do
  case $1 in
    --help | -h) echo "$usage" && exit 0 ;;
    --runs=?*) runs=${1#*=} runs=${runs/#'~/'/"$HOME/"} ;;
    --estimate) estimate=1 ;;
    --anyway) anyway=1 ;;
    --nowait) nowait=1 ;;
    --) shift && settings=("$@") && break ;;
    -*) echo "error: $1 is not an option: see $0 --help; settings of each row come after --" >&2 && exit 2 ;;
    *) rows+=("$1") ;;
  esac
  shift
done
command -v flock >/dev/null || { echo "error: flock is missing: install util-linux" >&2; exit 2; }

child='' stopped='' interrupted=''
stop() {
  stopped=1 interrupted=1
  [[ -z $child ]] || kill -TERM -- "-$child" 2>/dev/null || true
}
trap stop TERM INT HUP

# Runs a command to its end, whatever signals come; returns its exit code.
attend() {
  local code
  set -m # the command is a process group of its own, so that Ctrl-C reaches it once, through this script
  "$@" &
  child=$!
  set +m
  [[ -z $stopped ]] || stop # the signal came before there was a child
  while interrupted='' code=0; do
    wait "$child" || code=$?
    [[ -n $interrupted ]] || break
  done
  child=''
  [[ -z $stopped ]] || ((code <= 128)) || code=75 # the signal came before the command could handle it
  return "$code"
}

batch() { attend "$python" -m brittle_jax.batch "$@" "${rows[@]}" "--runs=$runs" -- "${settings[@]}"; }

say() { echo "[$(date +%H:%M:%S)] $*"; }

if [[ -n $estimate ]]; then
  batch estimate && exit 0 || exit $?
fi

# Each line of the list is a row, and after those that lack something comes a second word.
list=$(mktemp)
trap 'rm -f "$list"' EXIT
batch check "--list_to=$list" || {
  code=$?
  ((code == 2)) && [[ -n $anyway && -s $list ]] || exit "$code"
}
mkdir -p "$runs" || { echo "error: --runs=$runs cannot be made: name another folder" >&2; exit 2; }
pending=()
declare -A lacks=()
while read -r row what; do
  pending+=("$row")
  lacks[$row]=$what
done <"$list"

total=${#pending[@]} num_done=0 failed=0
began=${EPOCHREALTIME/[.,]/} # in microseconds

# Tries a row; returns 1 if it is busy, and is to be tried again.
try_row() {
  local row=$1 folder=$runs/${1/:/-} code=0 log at last_code last_at
  # What is in the folder of a row that lacks something may be another run's.
  if [[ -e $folder/results.json && -z ${lacks[$row]} ]]; then
    say "$row: finished before [$((++num_done))/$total]"
    return 0
  fi
  # Who holds the lock of a row's log runs the row. Where files cannot be locked, main tells whether the row is busy.
  if ! exec {log}>>"$folder.log"; then
    failed=1
    keep_code "$folder" 1
    say "$row: failed, $folder.log cannot be written [$((++num_done))/$total]"
    return 0
  fi
  flock --nonblock --conflict-exit-code 4 "$log" || code=$?
  if ((code == 4)); then
    exec {log}>&-
    return 1
  fi
  read -r last_code last_at 2>/dev/null <"$folder.exit" || last_code='' last_at=0
  if [[ -e $folder/results.json && -z ${lacks[$row]} ]]; then
    say "$row: finished by another worker [$((++num_done))/$total]"
  elif [[ -n $last_code && $last_code != 75 && $last_code != 4 ]] && ((${last_at:-0} >= began)); then
    failed=1
    say "$row: failed in another worker, see $folder.log [$((++num_done))/$total]"
  else
    say "$row: running, see $folder.log"
    code=0 at=$SECONDS
    rm -f "$folder.exit"
    echo "$(date '+%F %T') on $HOSTNAME: $row ${settings[*]}" >&"$log"
    attend "$python" -m brittle_jax.main "--config=$row" "--workdir=$folder" --nowait "${settings[@]}" \
      >&"$log" 2>&1 || code=$?
    keep_code "$folder" "$code"
    report "$row" "$folder" "$code" $((SECONDS - at))
  fi
  exec {log}>&-
  ((code != 4))
}

# Keeps the exit code of an attempt, and when it ended, for other workers and the summary.
keep_code() {
  local partial=$1.exit.partial.$$
  { echo "$2 ${EPOCHREALTIME/[.,]/}" >"$partial" && mv "$partial" "$1.exit"; } || rm -f "$partial"
}

# Says how an attempt ended.
report() {
  local row=$1 folder=$2 code=$3 took
  took=$(printf '%d min %02d s' $(($4 / 60)) $(($4 % 60)))
  case $code in
    0) say "$row: finished in $took [$((++num_done))/$total]" ;;
    3) say "$row: finished in $took, without images that could not be read [$((++num_done))/$total]" ;;
    4) say "$row: put off, $(tail -n 1 "$folder.log")" ;;
    75) stopped=1 && say "$row: stopped after $took, the same command goes on" ;;
    *) failed=1 && say "$row: failed after $took with exit code $code, see $folder.log [$((++num_done))/$total]" ;;
  esac
}

left=()
while ((${#pending[@]})) && [[ -z $stopped ]]; do
  left=() before=$num_done
  for row in "${pending[@]}"; do
    if [[ -n $stopped ]]; then
      break
    fi
    try_row "$row" || left+=("$row")
  done
  pending=("${left[@]}")
  if ((${#left[@]} && num_done == before)) && [[ -z $stopped ]]; then
    [[ -z $nowait ]] || break
    printf -v names '%s, ' "${left[@]}"
    say "${names%, } in use by other runs: trying again in $retry_seconds s"
    attend sleep "$retry_seconds" || true
  fi
done

was_stopped=$stopped stopped=''
echo
batch summary || true
[[ -z $was_stopped ]] || exit 75
((failed == 0)) || exit 1
((${#left[@]} == 0)) || exit 4
