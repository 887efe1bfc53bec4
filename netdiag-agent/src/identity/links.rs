//! News about the node's interfaces while a trace runs: new pods, links that go, addresses and carrier that change.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::error::IdentityError;
use super::netns::{NetnsHandle, run_in};
use super::scene::{Picture, Scene, Uplinks};
use super::target::{LinkRef, Selector, Target, candidates};
use crate::event::{IfIndex, Netns};
use crate::inventory::{BlindSpot, Delta, Link, Namespace, Role};

/// `rtnetlink_groups` of `linux/rtnetlink.h`: links, IPv4 and IPv6 addresses.
const GROUPS: [u32; 3] = [1, 5, 9];

/// A pod's set-up is a burst of messages; one look after it is enough.
const SETTLE: Duration = Duration::from_millis(50);

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// For the core.
    Delta(Delta),
    /// An interface of the node is new, or has become what it was not: a pod's veth is one only when its peer has moved.
    Appeared {
        link: LinkRef,
        role: Role,
        /// The namespace behind a pod's veth; `None` also when it could not be named.
        pod: Option<NetnsHandle>,
    },
    /// The pods to be traced are others now; `None`: there is none at the moment.
    Pods(Option<Box<Target>>),
    /// An interface of the node has gone, and with it whatever was attached to it.
    Gone { link: LinkRef, role: Role },
}

/// The pods that are traced, which may become others.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    pods: Arc<Mutex<Vec<NetnsHandle>>>,
    changed: Arc<Notify>,
}

impl Traced {
    pub fn new(pods: &[NetnsHandle]) -> Self {
        let traced = Self::default();
        pods.clone_into(&mut traced.lock());
        traced
    }

    pub fn set(&self, pods: &[NetnsHandle]) {
        pods.clone_into(&mut self.lock());
        self.changed.notify_one();
    }

    fn get(&self) -> Vec<NetnsHandle> {
        self.lock().clone()
    }

    /// Whoever panicked while holding it had read or written it whole.
    fn lock(&self) -> MutexGuard<'_, Vec<NetnsHandle>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the interfaces of the node of a [`Target`].
///
/// A message from the kernel only says that something changed: what it is comes from looking again and comparing, so
/// that messages lost in a full socket cost nothing.
pub struct Watch {
    socket: AsyncFd<Socket>,
    look: Look,
    known: Known,
    /// Something changed that was not looked at yet.
    dirty: bool,
}

/// What a look needs to know.
#[derive(Clone)]
struct Look {
    node: NetnsHandle,
    pods: Traced,
    uplinks: Vec<LinkRef>,
    typed: bool,
}

impl Watch {
    /// Starts with what `target` says; needs the context of an async runtime.
    pub fn open(target: &Target, selector: &Selector) -> Result<Self, IdentityError> {
        Self::open_for(target, selector, &Traced::new(&target.pods))
    }

    /// The same, with traced pods that may become others.
    pub fn open_for(
        target: &Target,
        selector: &Selector,
        traced: &Traced,
    ) -> Result<Self, IdentityError> {
        let failed = |cause| IdentityError::Netlink {
            act: "watch the interfaces",
            namespace: target.node.label(),
            cause,
        };
        let socket = run_in(&target.node, subscribe)?
            .and_then(register)
            .map_err(failed)?;
        let look = Look {
            node: target.node.clone(),
            pods: traced.clone(),
            uplinks: target.uplinks.clone(),
            typed: !selector.uplinks.is_empty(),
        };
        // Dirty: something may have changed since the target was resolved.
        Ok(Self {
            socket,
            look,
            known: Known::of(&target.deltas),
            dirty: true,
        })
    }

    /// Waits for the next changes; never returns an empty list. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Vec<Change>, IdentityError> {
        loop {
            if !self.dirty {
                self.wait().await?;
            }
            tokio::time::sleep(SETTLE).await;
            self.drain()?;
            let look = self.look.clone();
            let node = self.look.node.clone();
            let picture = tokio::task::spawn_blocking(move || look.again())
                .await
                .map_err(|_| IdentityError::Panicked {
                    namespace: node.label(),
                })??;
            self.dirty = false;
            let changes = self
                .known
                .update(&self.look.node, &self.look.pods.get(), &picture);
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    async fn wait(&mut self) -> Result<(), IdentityError> {
        let ready = tokio::select! {
            ready = self.socket.readable() => ready.map(|mut guard| guard.retain_ready()),
            () = self.look.pods.changed.notified() => Ok(()),
        };
        ready.map_err(|cause| self.failed(cause))?;
        self.dirty = true;
        Ok(())
    }

    /// Throws away what is waiting in the socket.
    fn drain(&mut self) -> Result<(), IdentityError> {
        let mut buffer: Vec<u8> = Vec::with_capacity(32 * 1024);
        loop {
            buffer.clear();
            match self.socket.get_ref().recv(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The socket overflowed: messages are lost, but not that there were any.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn failed(&self, cause: io::Error) -> IdentityError {
        IdentityError::Netlink {
            act: "watch the interfaces",
            namespace: self.look.node.label(),
            cause,
        }
    }
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket owns its descriptor, and nothing replaces or closes it before the AsyncFd is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

impl Look {
    fn again(&self) -> Result<Picture, IdentityError> {
        // The thread may be any; the process was started in one place.
        let own = NetnsHandle::own()?;
        let scene = Scene::read(self.node.clone(), self.pods.get(), &candidates(&own)?)?;
        let uplinks = if self.typed {
            Uplinks::KeptTyped(&self.uplinks)
        } else {
            Uplinks::Kept(&self.uplinks)
        };
        scene.picture(uplinks, &own)
    }
}

/// What the core was told so far.
#[derive(Debug, Default)]
struct Known {
    namespaces: BTreeMap<Netns, Namespace>,
    links: BTreeMap<(Netns, IfIndex), Link>,
    blind: Vec<BlindSpot>,
}

impl Known {
    fn of(deltas: &[Delta]) -> Self {
        let mut known = Self::default();
        for delta in deltas {
            match delta {
                Delta::Namespace(namespace) => {
                    known.namespaces.insert(namespace.netns, namespace.clone());
                }
                Delta::Link(link) => {
                    known.links.insert((link.netns, link.ifindex), link.clone());
                }
                Delta::Blind(spot) => known.blind.push(spot.clone()),
                _ => {}
            }
        }
        known
    }

    /// Takes over what was just seen; returns what is different, namespaces before their links.
    fn update(
        &mut self,
        node: &NetnsHandle,
        pods: &[NetnsHandle],
        picture: &Picture,
    ) -> Vec<Change> {
        let seen = Self::of(&picture.deltas);
        let mut changes: Vec<Change> = Vec::new();
        for (netns, namespace) in seen.namespaces {
            if self.namespaces.get(&netns) != Some(&namespace) {
                changes.push(Change::Delta(Delta::Namespace(namespace.clone())));
                self.namespaces.insert(netns, namespace);
            }
        }
        self.remove_gone(node, &seen.links, &mut changes);
        for (key, link) in seen.links {
            let before = self.links.get(&key);
            if before == Some(&link) {
                continue;
            }
            changes.push(Change::Delta(Delta::Link(link.clone())));
            let renewed =
                before.is_none_or(|before| before.role != link.role || before.peer != link.peer);
            if link.netns == node.netns() && renewed {
                let mut handles = pods.iter().chain(&picture.other_pods);
                let behind = link
                    .peer
                    .and_then(|(netns, _)| handles.find(|pod| pod.netns() == netns).cloned());
                changes.push(Change::Appeared {
                    link: link_ref(&link),
                    role: link.role,
                    pod: behind,
                });
            }
            self.links.insert(key, link);
        }
        for spot in &picture.blind {
            if !self.blind.contains(spot) {
                changes.push(Change::Delta(Delta::Blind(spot.clone())));
                self.blind.push(spot.clone());
            }
        }
        changes
    }

    fn remove_gone(
        &mut self,
        node: &NetnsHandle,
        seen: &BTreeMap<(Netns, IfIndex), Link>,
        changes: &mut Vec<Change>,
    ) {
        self.links.retain(|key, link| {
            let here = seen.contains_key(key);
            if !here {
                changes.push(Change::Delta(Delta::LinkGone {
                    netns: key.0,
                    ifindex: key.1,
                }));
                if key.0 == node.netns() {
                    changes.push(Change::Gone {
                        link: link_ref(link),
                        role: link.role,
                    });
                }
            }
            here
        });
    }
}

fn link_ref(link: &Link) -> LinkRef {
    LinkRef {
        ifindex: link.ifindex,
        name: link.name.clone(),
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
