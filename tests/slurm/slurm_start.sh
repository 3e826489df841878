#!/bin/bash
# Starts a private Slurm of one or more nodes on this host, all of it below one folder.
#   slurm_start.sh WORK [NODES=1] [PORT=26817]   then: . WORK/env.sh; srun ...; slurm_stop.sh WORK
# Needs root and the packages slurm-wlm and munge. Uses no file or daemon outside WORK, so another
# Slurm or munge may run beside it, and another WORK on other ports. Do not call it inside a Slurm
# job.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '3p' "$0" | cut -c3- >&2
  exit 2
fi
mkdir -p "$1"
work=$(cd "$1" && pwd) nodes=${2:-1} port=${3:-26817}
cpus=4  # that a node claims to have
host=$(hostname -s)
conf=$work/slurm.conf mark=$work/.private-slurm

refuse() {
  echo "$0: $*" >&2
  exit 2
}
[ -e "$mark" ] || [ -z "$(ls -A "$work")" ] ||
  refuse "$work is neither empty nor a folder of this script"
[ ! -e "$work/munge/pid" ] || refuse "$work is in use; run slurm_stop.sh first"
# Sockets lie below it, and their names are limited.
[[ $work != *[[:space:]]* && ${#work} -le 60 ]] ||
  refuse "$work: at most 60 characters and no blanks, please"
touch "$mark"
# State and spool go together: with one of them alone, old job ids meet old sockets.
rm -rf "$work"/{munge,state,run} "$work"/spool-* "$work"/tmp-*
mkdir -p "$work"/{munge,state,run,log}
for i in $(seq "$nodes"); do mkdir -p "$work/spool-n$i" "$work/tmp-n$i"; done
chmod 755 "$work" "$work/munge"

node_names=n1 node_ports=$((port + 1))
if [ "$nodes" -gt 1 ]; then
  node_names="n[1-$nodes]" node_ports="[$((port + 1))-$((port + nodes))]"
fi
# cred_expire: a requeued job is held for that long plus 1 s (by default 121 s). Below 5 s the last
# KILL of one life can hit the next.
cat > "$conf" << EOF
ClusterName=private
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=5
StateSaveLocation=$work/state
SlurmctldPidFile=$work/run/slurmctld.pid
SlurmctldLogFile=$work/log/slurmctld.log
SlurmdPidFile=$work/run/slurmd-%n.pid
SlurmdLogFile=$work/log/slurmd-%n.log
SlurmdSpoolDir=$work/spool-%n
TmpFS=$work/tmp-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=pmix
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
KillWait=3
CompleteWait=0
MinJobAge=300
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
NodeName=DEFAULT CPUs=$cpus RealMemory=1000 State=UNKNOWN
NodeName=$node_names NodeHostname=$host NodeAddr=127.0.0.1 Port=$node_ports
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
EOF
cat > "$work/env.sh" << EOF
export SLURM_CONF=$conf
export OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include=lo
EOF

# Nodes on one host must not share the names in /dev/shm (ranks crash in Open MPI's btl/vader). Each
# gets its own host name and /dev/shm where the machine permits it, else a folder of its own for
# Open MPI's segments.
own=no
if [ "$nodes" -gt 1 ]; then
  if unshare --uts --mount --ipc true 2> /dev/null; then
    own=yes
  else
    cat > "$work/task_prolog" << EOF
#!/bin/sh
for part in btl_vader osc_sm; do
  echo "export OMPI_MCA_\${part}_backing_directory=$work/tmp-\$SLURMD_NODENAME"
done
EOF
    chmod 755 "$work/task_prolog"
    echo "TaskProlog=$work/task_prolog" >> "$conf"
  fi
fi

# The mark in the daemons' environment is how slurm_stop.sh finds exactly these.
export SLURM_CONF=$conf PRIVATE_SLURM=$work
(umask 077 && head -c 1024 /dev/urandom > "$work/munge/key")
munged --force --key-file="$work/munge/key" --socket="$work/munge/socket" \
  --pid-file="$work/munge/pid" --log-file="$work/munge/log" \
  --seed-file="$work/munge/seed" --num-threads=2
slurmctld -f "$conf"
for i in $(seq "$nodes"); do
  if [ $own = no ]; then
    slurmd -f "$conf" -N "n$i"
  else
    # shellcheck disable=SC2016  # the inner shell expands
    unshare --uts --mount --ipc bash -c 'mount --make-rprivate / &&
      mount -t tmpfs -o mode=1777,size=25% shm /dev/shm &&
      hostname "$1" && exec slurmd -f "$2" -N "$1"' \
      _ "n$i" "$conf"
  fi
done
for _ in $(seq 200); do
  if [ "$(sinfo -h -N -o %T 2> /dev/null | grep -c '^idle$')" = "$nodes" ]; then
    echo ". $work/env.sh"
    exit 0
  fi
  sleep 0.1
done
echo "$0: nodes are not idle after 20 s" >&2
sinfo -N -o '%N %T %E' >&2 || true
tail -n 5 "$work"/log/*.log >&2
exit 1
