#!/usr/bin/env bash
# Runs rows of the paper on one Cloud TPU VM. launch/README.md explains it.
#
#   launch/tpu_vm.sh [--dry_run] [--yes] COMMAND
#
#   create       the disk and the VM; a VM that was preempted is replaced
#   install      this checkout's HEAD, with the packages that it needs
#   estimate     what the rows would take, without training anything
#   run          start the rows in the background; what is finished is skipped
#   logs         show what the rows print until they end; Ctrl-C leaves them running
#   stop         stop the rows and keep their work: `run` continues it
#   fetch        copy the results to this machine
#   delete       the VM; the disk and the results on it stay
#   delete_disk  the disk and everything on it
#   all          create, install, run, logs, fetch, delete
#
#   --dry_run    print each command, ready to be pasted, and run none
#   --yes        do not ask before deleting
set -euo pipefail
cd "$(dirname "$0")/.."

# ---- Your site. An environment variable of the same name overrides a line. ------------------------------------------
TPU_PROJECT=${TPU_PROJECT:-}                         # your Google Cloud project; only a dry run does without
TPU_ZONE=${TPU_ZONE:-us-west4-a}                     # a zone that has the type below and where you have quota
TPU_NETWORK=${TPU_NETWORK:-default}
TPU_TYPE=${TPU_TYPE:-v5litepod-8}                    # a type of one host, see SINGLE_HOST
TPU_VERSION=${TPU_VERSION:-v2-alpha-tpuv5-lite}      # v4: tpu-ubuntu2204-base; others: see launch/README.md
TPU_SPOT=${TPU_SPOT:-true}                           # true: cheaper, but Google may take the VM away at any time
TPU_NAME=${TPU_NAME:-brittle-jax}
TPU_DISK=${TPU_DISK:-$TPU_NAME-disk}                 # holds code, data sets and results; outlives the VM
TPU_DISK_SIZE=${TPU_DISK_SIZE:-200GB}
TPU_DISK_TYPE=${TPU_DISK_TYPE:-pd-balanced}          # v6e: hyperdisk-balanced
TPU_ROWS=${TPU_ROWS:-cifar10}                        # rows or groups, as launch/all_rows.sh takes them
TPU_OVERRIDES=${TPU_OVERRIDES:-}                     # options for each row, such as --config.seed=1
TPU_RUNS=${TPU_RUNS:-runs}                           # folder of the results on the disk; another one for another seed
TPU_EXTRAS=${TPU_EXTRAS:-}                           # more extras of the package: weights reads .pth files
TPU_RESULTS=${TPU_RESULTS:-runs/$TPU_NAME}           # folder on this machine that `fetch` copies to
# ---------------------------------------------------------------------------------------------------------------------

SINGLE_HOST="v2-8 v3-8 v4-8 v5litepod-1 v5litepod-4 v5litepod-8 v5p-8 v6e-1 v6e-4 v6e-8"
MOUNT=/mnt/brittle_jax                               # where the VM has the disk
DEVICE=/dev/disk/by-id/google-persistent-disk-1      # the first disk after the boot disk
UNIT=brittle_jax                                     # the systemd unit of the rows
ARCHIVE=$TPU_RESULTS/code.tar.gz                     # what `install` takes to the VM

dry_run=false
yes=false

fail() {
  echo "tpu_vm.sh: $1" >&2
  exit 2
}

# Prints a command so that a shell reads it back word for word.
quoted() {
  local word line='' quote="'" escaped="'\\''"
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_./:=,@+-]*) line+=" '${word//$quote/$escaped}'" ;;
      *) line+=" $word" ;;
    esac
  done
  printf '%s\n' "${line# }"
}

# Runs a command, or prints it.
execute() {
  if $dry_run; then quoted "$@"; else "$@"; fi
}

# Runs a query, whose failure means "not there". A dry run prints it and assumes that nothing is there.
query() {
  if $dry_run; then quoted "$@" >&3; else "$@" 2>/dev/null; fi || true
}

on_vm() {
  execute gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${where[@]}" --command="$1"
}

confirm() {
  local answer=
  if $yes || $dry_run; then return; fi
  read -r -p "$1 [y/N] " answer || true
  [[ $answer == [yY]* ]] || fail "nothing was deleted"
}

create() {
  [[ " $SINGLE_HOST " == *" $TPU_TYPE "* ]] || fail "TPU_TYPE=$TPU_TYPE is not one of $SINGLE_HOST"
  if [[ -z $(query gcloud compute disks describe "$TPU_DISK" "${where[@]}" --format='value(name)') ]]; then
    execute gcloud compute disks create "$TPU_DISK" "${where[@]}" --size="$TPU_DISK_SIZE" --type="$TPU_DISK_TYPE"
  fi
  local state
  state=$(query gcloud compute tpus tpu-vm describe "$TPU_NAME" "${where[@]}" --format='value(state)')
  case $state in
    '') ;;
    READY)
      echo "$TPU_NAME is there already"
      return
      ;;
    PREEMPTED | TERMINATED) # such a VM never starts again; what matters is on the disk
      echo "$TPU_NAME is ${state}: replacing it"
      execute gcloud compute tpus tpu-vm delete "$TPU_NAME" "${where[@]}" --quiet
      ;;
    *) fail "$TPU_NAME is ${state}: wait and try again, or delete it" ;;
  esac
  local disk="projects/$TPU_PROJECT/zones/$TPU_ZONE/disks/$TPU_DISK"
  local spot=()
  if $TPU_SPOT; then spot=(--spot); fi
  execute gcloud compute tpus tpu-vm create "$TPU_NAME" "${where[@]}" --network="$TPU_NETWORK" \
    --accelerator-type="$TPU_TYPE" --version="$TPU_VERSION" --data-disk="source=$disk,mode=read-write" \
    ${spot[@]+"${spot[@]}"}
}

# Everything goes onto the disk: the boot disk is small, and is lost with the VM. A new VM may number its users anew,
# hence chown -R. uv brings a newer Python than the VM's.
install() {
  execute mkdir -p "$TPU_RESULTS"
  execute git archive --format=tar.gz --output="$ARCHIVE" HEAD
  on_vm "set -e
    mountpoint -q $MOUNT && exit
    sudo blkid $DEVICE || sudo mkfs.ext4 -m 0 $DEVICE
    sudo mkdir -p $MOUNT
    sudo mount -o discard,defaults $DEVICE $MOUNT
    sudo chown -R \$USER $MOUNT"
  execute gcloud compute tpus tpu-vm scp "$ARCHIVE" "$TPU_NAME:$MOUNT/code.tar.gz" "${where[@]}"
  on_vm "set -e
    cd $MOUNT
    if systemctl is-active --quiet $UNIT; then echo \"rows are running: the code stays as it is\"; exit; fi
    rm -rf code && mkdir code && tar -xzf code.tar.gz -C code
    export UV_CACHE_DIR=$MOUNT/uv/cache UV_PYTHON_INSTALL_DIR=$MOUNT/uv/python
    test -x uv/uv || curl -LsSf https://astral.sh/uv/install.sh | env UV_UNMANAGED_INSTALL=$MOUNT/uv sh
    test -x venv/bin/python || uv/uv venv --python 3.12 venv
    uv/uv pip install --python venv/bin/python --editable \"code[tpu,prepare${TPU_EXTRAS:+,$TPU_EXTRAS}]\"
    venv/bin/python -c \"import jax; print(jax.devices())\""
}

# The rows are a systemd unit: no terminal holds them, and when the VM shuts down they get a SIGTERM and time to save.
# KillMode=mixed: only all_rows.sh gets it, and passes it on to the row.
start() {
  on_vm "set -e
    cd $MOUNT/code
    if systemctl is-active --quiet $UNIT; then echo \"rows are running already\"; exit; fi
    sudo systemctl reset-failed $UNIT 2>/dev/null || true
    sudo systemd-run --unit=$UNIT --uid=\$USER --working-directory=$MOUNT/code \\
      --property=KillMode=mixed --property=TimeoutStopSec=300 --property=StandardOutput=append:$MOUNT/all_rows.log \\
      --setenv=PATH=$MOUNT/venv/bin:\$PATH --setenv=TFDS_DATA_DIR=$MOUNT/tensorflow_datasets \\
      --setenv=JAX_COMPILATION_CACHE_DIR=$MOUNT/compiled \\
      $MOUNT/code/launch/all_rows.sh $TPU_ROWS --runs=$MOUNT/$TPU_RUNS${TPU_OVERRIDES:+ -- $TPU_OVERRIDES}"
}

estimate() {
  on_vm "set -e
    cd $MOUNT/code
    export PATH=$MOUNT/venv/bin:\$PATH TFDS_DATA_DIR=$MOUNT/tensorflow_datasets
    export JAX_COMPILATION_CACHE_DIR=$MOUNT/compiled
    launch/all_rows.sh --estimate $TPU_ROWS --runs=$MOUNT/$TPU_RUNS${TPU_OVERRIDES:+ -- $TPU_OVERRIDES}"
}

# Ends with the exit code of the rows. systemd forgets a unit that ended well, and then answers 0.
logs() {
  on_vm "tail --pid=\$\$ -n 100 -F $MOUNT/all_rows.log &
    until systemctl show --property=ActiveState --value $UNIT | grep -qxE \"inactive|failed\"; do sleep 5; done
    exit \$(systemctl show --property=ExecMainStatus --value $UNIT)"
}

stop() {
  on_vm "sudo systemctl stop $UNIT"
}

fetch() {
  execute mkdir -p "$TPU_RESULTS"
  execute gcloud compute tpus tpu-vm scp --recurse "$TPU_NAME:$MOUNT/$TPU_RUNS" "$TPU_NAME:$MOUNT/all_rows.log" \
    "$TPU_RESULTS" "${where[@]}"
}

delete() {
  confirm "Delete the VM $TPU_NAME? Its disk $TPU_DISK stays."
  execute gcloud compute tpus tpu-vm delete "$TPU_NAME" "${where[@]}" --quiet
  $dry_run || echo "the disk $TPU_DISK stays, and costs money until launch/tpu_vm.sh delete_disk"
}

delete_disk() {
  confirm "Delete the disk $TPU_DISK and all results on it? Copy them first: launch/tpu_vm.sh fetch."
  execute gcloud compute disks delete "$TPU_DISK" "${where[@]}" --quiet
}

all() {
  create
  install
  start
  logs || {
    local code=$?
    echo "exit code $code: rows failed or were stopped, or the connection was lost; the same command goes on" >&2
    echo "the VM stays, and costs money until launch/tpu_vm.sh delete" >&2
    exit "$code"
  }
  fetch
  delete
}

main() {
  local argument command=
  for argument in "$@"; do
    case $argument in
      --dry_run) dry_run=true ;;
      --yes) yes=true ;;
      -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
        exit
        ;;
      create | install | estimate | run | logs | stop | fetch | delete | delete_disk | all)
        [[ -z $command ]] || fail "give one command: $command or $argument"
        command=$argument
        ;;
      *) fail "unknown argument $argument: see launch/tpu_vm.sh --help" ;;
    esac
  done
  [[ -n $command ]] || fail "name a command: see launch/tpu_vm.sh --help"
  if $dry_run; then TPU_PROJECT=${TPU_PROJECT:-YOUR-PROJECT}; fi
  [[ -n $TPU_PROJECT ]] || fail "TPU_PROJECT is empty: name your Google Cloud project"
  where=(--project="$TPU_PROJECT" --zone="$TPU_ZONE")
  [[ $TPU_RUNS =~ ^runs[A-Za-z0-9_.-]*$ ]] || fail "TPU_RUNS=$TPU_RUNS: give a name such as runs-seed-1"
  [[ $TPU_SPOT == true || $TPU_SPOT == false ]] || fail "TPU_SPOT=$TPU_SPOT: give true or false"
  $dry_run || command -v gcloud >/dev/null || fail "gcloud is missing: https://cloud.google.com/sdk/docs/install"
  if [[ $command == run ]]; then command=start; fi
  "$command"
}

exec 3>&1 # for what a dry run prints from inside of $(...)
main "$@"
