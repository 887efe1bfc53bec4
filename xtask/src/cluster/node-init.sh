# The first process of the node: $1 is the folder shared with the machine, $2 the node's name.
# It makes the node's file systems, says that it is ready, and then collects dead processes for ever.
set -eu
root=$1 name=$2 own=$1/own
# A mount made here stays here; one made by the node is seen by its containers.
mount --make-rshared /
mkdir -p "$own"
mount -t tmpfs -o mode=755 "$name" "$own"
mkdir "$own/run" "$own/containerd"
for tree in etc var; do
  mkdir "$own/$tree" "$own/$tree.work"
  mount -t overlay -o "lowerdir=/$tree,upperdir=$own/$tree,workdir=$own/$tree.work" "$name-$tree" "/$tree"
done
mount --bind "$own/run" /run
mkdir -p /run/netns /run/lock /var/lib/containerd /var/lib/kubelet /var/log/pods /var/log/containers /etc/kubernetes
# An overlay cannot be the upper layer of another.
mount --bind "$own/containerd" /var/lib/containerd
hostname "$name"
: > "$root/ready"
trap : TERM INT HUP
while :; do sleep 1 & wait; done
