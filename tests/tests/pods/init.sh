# The first process of the node: $1 is the folder shared with the machine.
# It gives the node file systems, a way out and a runtime of its own, says that it is ready, and then waits for ever.
set -eu
shared=$1
mount --make-rprivate /
mount --make-rshared /
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock /run/containerd /var/lib/cni
mount -t tmpfs cni /var/lib/cni
mkdir -p /tmp/netdiag-pods && mount -t tmpfs -o mode=755 lib /tmp/netdiag-pods
ip link set lo up
ip netns add outside
ip link add up0 type veth peer name eth0 netns outside
ip addr add 192.0.2.1/24 dev up0
ip link set up0 up
ip route add default via 192.0.2.254
ip -n outside link set lo up
ip -n outside addr add 192.0.2.254/24 dev eth0
ip -n outside addr add 198.51.100.10/32 dev lo
ip -n outside link set eth0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
ip netns exec outside nc.openbsd -lk -s 198.51.100.10 -p 8080 </dev/null >/dev/null 2>&1 &
: > "$shared/ready"
trap : TERM INT HUP
while :; do sleep 1 & wait; done
