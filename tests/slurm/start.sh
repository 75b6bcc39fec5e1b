#!/usr/bin/env bash
# SLURM on this machine, for the tests: two virtual nodes (n1, n2) of two CPUs and two pretended GPUs each, the
# partitions main and low (main preempts low), and accounting. Needs root on Debian; no systemd.
#
#   start.sh        install what is missing, start what does not run, wait until all answers
#   start.sh stop   cancel all jobs and stop what was started
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin MYSQL_UNIX_PORT=/run/slurm/mariadb.sock
etc=/etc/slurm state=/var/lib/slurm log=/var/log/slurm run=/run/slurm
nodes="n1 n2"

fail() { echo "slurm: $*" >&2; tail -n 5 $log/*.log >&2 || true; exit 1; }

runs() {  # PIDFILE NAME: a process of this name, no zombie, has the id in the file
  [ -s "$1" ] && grep -q "($2) [^ZX]" "/proc/$(cat "$1")/stat" 2>/dev/null
}

wait_until() {  # SECONDS COMMAND...
  local left=$(($1 * 5)); shift
  until "$@" &>/dev/null; do
    ((left--)) || fail "not ready: $*"
    sleep 0.2
  done
}

end() {  # PIDFILE NAME
  runs "$1" "$2" || return 0
  local pid; pid=$(cat "$1")
  kill "$pid"
  for _ in {1..50}; do runs "$1" "$2" || return 0; sleep 0.2; done
  kill -9 "$pid"
}

install_packages() {
  local missing=() policy=/usr/sbin/policy-rc.d
  for name in munge slurmctld slurmd slurm-client slurmdbd mariadb-server-core mariadb-client-core; do
    dpkg-query -W -f '${db:Status-Status}' $name 2>/dev/null | grep -qx installed || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  echo "slurm: installing ${missing[*]}" >&2
  local own=
  [ -e $policy ] || { own=1; printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; }  # starts no daemon
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
    { [ -z $own ] || rm $policy; fail "apt-get install"; }
  [ -z $own ] || rm $policy
}

configure() {
  install -d $etc
  install -d -o slurm -g slurm $state $state/slurmctld $log $run
  install -d $state/slurmd.n1 $state/slurmd.n2 /dev/fakegpu
  : >$etc/gres.conf
  for node in $nodes; do
    getent hosts $node >/dev/null || echo "127.0.0.1 $node # virtual node of SLURM" >>/etc/hosts
    for i in 0 1; do  # a GPU has to be a character device, and ends in its number
      [ -e /dev/fakegpu/${node}gpu$i ] || mknod -m 666 /dev/fakegpu/${node}gpu$i c 1 3
    done
    echo "NodeName=$node Name=gpu File=/dev/fakegpu/${node}gpu[0-1]" >>$etc/gres.conf
  done
  # Children are held together and memory is bounded by cgroups where they can be written, else by polling.
  local held="ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherParams=OverMemoryKill" group=/sys/fs/cgroup
  if [ -w $group/freezer/tasks ] && [ -w $group/memory/memory.limit_in_bytes ]; then
    held="ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup"
  fi
  cat >$etc/cgroup.conf <<END
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint=$group
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
ConstrainDevices=no
END
  cat >$etc/slurmdbd.conf <<END
DbdHost=localhost
SlurmUser=slurm
AuthType=auth/munge
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
PidFile=$run/slurmdbd.pid
LogFile=$log/slurmdbd.log
END
  chown slurm: $etc/slurmdbd.conf
  chmod 600 $etc/slurmdbd.conf
  # cred_expire, KillWait: short, so that a requeued job starts again in seconds.
  # MaxArraySize: small, so that a bench of 12 runs is more than one array.
  # preempt_send_user_signal: what is preempted gets the signal it asked for.
  cat >$etc/slurm.conf <<END
ClusterName=bench
SlurmctldHost=localhost
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=cred_expire=5
CredType=cred/munge
StateSaveLocation=$state/slurmctld
SlurmdSpoolDir=$state/slurmd.%n
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd.%n.pid
SlurmctldLogFile=$log/slurmctld.log
SlurmdLogFile=$log/slurmd.%n.log
MailProg=/bin/true
$held
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=5,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
GresTypes=gpu
JobRequeue=1
ReturnToService=2
KillWait=5
MinJobAge=3600
MaxArraySize=7
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageTRES=gres/gpu
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=2 RealMemory=8000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 PriorityTier=10 PreemptMode=off
PartitionName=low Nodes=ALL DefaultTime=10 PriorityTier=1 PreemptMode=requeue GraceTime=10
END
}

start_accounting() {
  if [ ! -d $state/mariadb/mysql ]; then
    install -d -o slurm -g slurm -m 700 $state/mariadb
    mariadb-install-db --no-defaults --user=slurm --datadir=$state/mariadb --skip-test-db \
      --auth-root-authentication-method=socket --auth-root-socket-user=slurm &>$log/mariadb.log ||
      fail mariadb-install-db
  fi
  if ! runs $run/mariadb.pid mariadbd; then
    rm -f $MYSQL_UNIX_PORT
    setsid mariadbd --no-defaults --user=slurm --datadir=$state/mariadb --socket=$MYSQL_UNIX_PORT \
      --pid-file=$run/mariadb.pid --skip-networking --innodb-buffer-pool-size=64M \
      --innodb-lock-wait-timeout=900 </dev/null &>>$log/mariadb.log &
    wait_until 30 test -S $MYSQL_UNIX_PORT
  fi
  runs $run/slurmdbd.pid slurmdbd || runuser -u slurm -- env MYSQL_UNIX_PORT=$MYSQL_UNIX_PORT slurmdbd
  wait_until 30 sacctmgr -n list cluster
  [ -n "$(sacctmgr -nP list cluster bench format=cluster)" ] || sacctmgr -i add cluster bench >/dev/null
}

idle() { [ "$(sinfo -h -N -p main -o %t | grep -cE '^(idle|mix|alloc|comp)$')" = 2 ]; }

start() {
  install_packages
  runs $run/slurmctld.pid slurmctld || configure
  install -d -o munge -g munge /run/munge
  runs /run/munge/munged.pid munged || { rm -f /run/munge/munge.socket*; runuser -u munge -- munged; }
  wait_until 10 munge -n
  start_accounting
  runs $run/slurmctld.pid slurmctld || slurmctld
  wait_until 20 scontrol ping
  for node in $nodes; do runs $run/slurmd.$node.pid slurmd || slurmd -N $node; done
  idle || scontrol update nodename=n[1-2] state=resume &>/dev/null || true  # drained in an earlier life
  wait_until 30 idle
  wait_until 20 sacct -n
}

stop() {
  squeue -h -o %A 2>/dev/null | sort -u | xargs -r scancel || true
  for _ in {1..50}; do [ -n "$(squeue -h 2>/dev/null)" ] || break; sleep 0.2; done
  for node in $nodes; do end $run/slurmd.$node.pid slurmd; done
  end $run/slurmctld.pid slurmctld
  end $run/slurmdbd.pid slurmdbd
  end $run/mariadb.pid mariadbd
  end /run/munge/munged.pid munged
}

[ "$(id -u)" = 0 ] || fail "must be root"
case ${1:-start} in start | stop) "${1:-start}" ;; *) sed -n 2,6p "$0"; exit 2 ;; esac
