//! The API as one that may be asked, and may not answer.

use std::path::PathBuf;

use kube::core::Selector;

use super::api::{self, Known};
use super::error::FindError;
use super::query::WorkloadKind;
use crate::identity::kube::client::{self, Access, AskError, Places};

/// `Err`: why nobody answered, in a few words.
pub type Answer<T> = Result<T, String>;

/// Connects when it is first asked.
pub struct Cluster {
    places: Places,
    access: Option<Answer<Access>>,
}

impl Cluster {
    pub fn new(kubeconfig: Option<&PathBuf>) -> Self {
        Self {
            places: Places::of_process(kubeconfig.map(PathBuf::as_path)),
            access: None,
        }
    }

    /// What is meant where no namespace is typed. Fails only over a kubeconfig that was named.
    pub async fn namespace(&self) -> Result<String, FindError> {
        match client::namespace(&self.places).await {
            Ok(namespace) => Ok(namespace),
            Err(error) if error.is_input() => Err(error.into()),
            Err(_) => Ok("default".to_owned()),
        }
    }

    async fn access(&mut self) -> Result<Answer<Access>, FindError> {
        if let Some(access) = &self.access {
            return Ok(access.clone());
        }
        let access = match client::connect(&self.places).await {
            Err(error) if error.is_input() => return Err(error.into()),
            access => access.map_err(|error| error.to_string()),
        };
        Ok(self.access.insert(access).clone())
    }

    /// `Ok(Ok(None))`: there is none.
    pub async fn pod(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Result<Answer<Option<Known>>, FindError> {
        Ok(match self.access().await? {
            Ok(access) => answer(api::pod(&access, namespace, name).await),
            Err(why) => Err(why),
        })
    }

    /// Pods on whatever node.
    pub async fn selected(
        &mut self,
        namespace: &str,
        selector: &Selector,
    ) -> Result<Answer<Vec<Known>>, FindError> {
        Ok(match self.access().await? {
            Ok(access) => answer(api::selected(&access, namespace, selector).await),
            Err(why) => Err(why),
        })
    }

    /// What selects a workload's pods. `Ok(Ok(None))`: there is no such workload.
    pub async fn selector(
        &mut self,
        kind: WorkloadKind,
        namespace: &str,
        name: &str,
    ) -> Result<Answer<Option<Selector>>, FindError> {
        Ok(match self.access().await? {
            Ok(access) => answer(api::selector(&access, kind, namespace, name).await),
            Err(why) => Err(why),
        })
    }

    /// For suggestions: empty where it cannot be had.
    pub async fn pods(&mut self, namespace: &str) -> Vec<Known> {
        let everything = Selector::default();
        let pods = self.selected(namespace, &everything).await;
        pods.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// For suggestions: empty where it cannot be had.
    pub async fn workloads(&mut self, kind: WorkloadKind, namespace: &str) -> Vec<String> {
        match self.access().await {
            Ok(Ok(access)) => api::workloads(&access, kind, namespace)
                .await
                .unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

fn answer<T>(answer: Result<T, AskError>) -> Answer<T> {
    answer.map_err(|error| match error.status() {
        Some(401) => "the API server does not know these credentials".to_owned(),
        Some(403) => "the API server does not let these credentials see it".to_owned(),
        _ => format!("Kubernetes API: {error}"),
    })
}
