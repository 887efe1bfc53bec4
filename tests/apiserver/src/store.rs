//! What the server holds: objects, their history, and the faults it has been told to show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fault::Fault;
use crate::path::{Target, group_version_of, resource_of};

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub struct Happening {
    pub version: u64,
    pub kind: &'static str,
    pub group_version: String,
    pub resource: String,
    pub object: Value,
}

/// Where one kind of object is served.
type Place = (String, String);
/// Namespace and name.
type Key = (String, String);

#[derive(Debug)]
struct State {
    version: u64,
    /// Watches from before this are refused.
    oldest: u64,
    objects: BTreeMap<Place, BTreeMap<Key, Value>>,
    kinds: BTreeMap<Place, (String, String)>,
    history: Vec<Happening>,
    unserved: BTreeSet<String>,
    faults: Vec<(String, Fault)>,
    requests: Vec<String>,
    cuts: u64,
    bookmarks: u64,
}

#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                version: 1000,
                oldest: 0,
                objects: BTreeMap::new(),
                kinds: BTreeMap::new(),
                history: Vec::new(),
                unserved: BTreeSet::new(),
                faults: Vec::new(),
                requests: Vec::new(),
                cuts: 0,
                bookmarks: 0,
            }),
            changed: watch::Sender::new(0),
        }
    }
}

/// A page of a list.
pub struct Page {
    pub items: Vec<Value>,
    pub version: u64,
    /// Where the next page begins, and how many objects it and those after it hold.
    pub more: Option<(String, usize)>,
    pub kind: String,
    pub api_version: String,
}

/// What a watch sees.
pub struct News {
    pub happenings: Vec<Happening>,
    pub version: u64,
    pub cuts: u64,
    pub bookmarks: u64,
    pub oldest: u64,
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn put(&self, mut object: Value) {
        let text = |value: &Value, what: &str| {
            let text = value.as_str();
            text.unwrap_or_else(|| panic!("an object has {what}"))
                .to_owned()
        };
        let kind = text(&object["kind"], "a kind");
        let api_version = text(&object["apiVersion"], "an apiVersion");
        let place = (group_version_of(&api_version), resource_of(&kind));
        let name = text(&object["metadata"]["name"], "a name");
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = version.to_string().into();
        if meta["uid"].is_null() {
            meta["uid"] = format!(
                "00000000-0000-4000-8000-{:012x}",
                hash(&place, &namespace, &name)
            )
            .into();
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        state.kinds.insert(place.clone(), (kind, api_version));
        let all = state.objects.entry(place.clone()).or_default();
        let before = all.insert((namespace, name), object.clone());
        let kind = if before.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.remember(kind, place, object);
        drop(state);
        self.touch();
    }

    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        let key = (namespace.to_owned(), name.to_owned());
        let found = state.objects.iter_mut().find_map(|(place, all)| {
            (place.1 == resource).then(|| Some((place.clone(), all.remove(&key)?)))?
        });
        if let Some((place, mut object)) = found {
            state.version += 1;
            object["metadata"]["resourceVersion"] = state.version.to_string().into();
            state.remember("DELETED", place, object);
        }
        drop(state);
        self.touch();
    }

    pub fn do_not_serve(&self, group_version: &str) {
        self.state().unserved.insert(group_version.to_owned());
    }

    pub fn serves(&self, group_version: &str) -> bool {
        !self.state().unserved.contains(group_version)
    }

    pub fn fail(&self, what: &str, fault: Fault) {
        self.state().faults.push((what.to_owned(), fault));
        self.touch();
    }

    pub fn heal(&self) {
        self.state().faults.clear();
        self.touch();
    }

    /// The fault this request meets.
    pub fn fault(&self, request: &str) -> Option<Fault> {
        let state = self.state();
        let mut faults = state.faults.iter();
        faults
            .find(|(what, _)| request.contains(what))
            .map(|(_, fault)| fault.clone())
    }

    pub fn expire(&self) {
        let mut state = self.state();
        state.version += 1;
        state.oldest = state.version;
        state.history.clear();
        drop(state);
        self.touch();
    }

    pub fn cut(&self) {
        self.state().cuts += 1;
        self.touch();
    }

    pub fn bookmark(&self) {
        let mut state = self.state();
        state.bookmarks += 1;
        state.version += 1;
        drop(state);
        self.touch();
    }

    pub fn note(&self, request: String) {
        self.state().requests.push(request);
    }

    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    pub fn get(&self, target: &Target) -> Option<Value> {
        let state = self.state();
        let all = state.objects.get(&target.place())?;
        let name = target.name.clone()?;
        let key = (target.namespace.clone().unwrap_or_default(), name);
        all.get(&key).cloned()
    }

    pub fn list(
        &self,
        target: &Target,
        wanted: impl Fn(&Value) -> bool,
        from: Option<&str>,
        limit: usize,
    ) -> Page {
        let state = self.state();
        let place = target.place();
        let spot = |(namespace, name): &Key| format!("{namespace}/{name}");
        let all = state.objects.get(&place).into_iter().flatten();
        let mut items: Vec<(&Key, &Value)> = all
            .filter(|(key, value)| target.holds(&key.0) && wanted(value))
            .filter(|(key, _)| from.is_none_or(|from| *spot(key) >= *from))
            .collect();
        let more = items
            .get(limit)
            .map(|(key, _)| (spot(key), items.len() - limit));
        items.truncate(limit);
        let (kind, api_version) = state.kinds.get(&place).cloned().unwrap_or_else(|| {
            let version = target.group_version.split_once('/');
            (
                guess_kind(&target.resource),
                version.map_or("v1", |(_, rest)| rest).to_owned(),
            )
        });
        Page {
            items: items.into_iter().map(|(_, value)| value.clone()).collect(),
            version: state.version,
            more,
            kind,
            api_version,
        }
    }

    /// What happened after a version.
    pub fn since(&self, target: &Target, version: u64) -> News {
        let state = self.state();
        let (group_version, resource) = target.place();
        let namespace = |object: &Value| {
            let namespace = object["metadata"]["namespace"].as_str();
            namespace.unwrap_or("").to_owned()
        };
        let mine = |one: &&Happening| {
            one.version > version
                && one.group_version == group_version
                && one.resource == resource
                && target.holds(&namespace(&one.object))
        };
        News {
            happenings: state.history.iter().filter(mine).cloned().collect(),
            version: state.version,
            cuts: state.cuts,
            bookmarks: state.bookmarks,
            oldest: state.oldest,
        }
    }
}

impl State {
    fn remember(&mut self, kind: &'static str, place: Place, object: Value) {
        let (group_version, resource) = place;
        let version = self.version;
        self.history.push(Happening {
            version,
            kind,
            group_version,
            resource,
            object,
        });
    }
}

impl Target {
    fn place(&self) -> Place {
        (self.group_version.clone(), self.resource.clone())
    }

    fn holds(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// The kind of an empty list.
fn guess_kind(resource: &str) -> String {
    let known = [
        "Pod",
        "Service",
        "Endpoints",
        "EndpointSlice",
        "NetworkPolicy",
        "Node",
        "Namespace",
        "ConfigMap",
    ];
    let found = known.iter().find(|kind| resource_of(kind) == resource);
    found.map_or("Unknown", |kind| kind).to_owned()
}

/// The same object has the same uid.
fn hash(place: &Place, namespace: &str, name: &str) -> u64 {
    let text = json!([place.0, place.1, namespace, name]).to_string();
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, fold) & 0xffff_ffff_ffff
}
