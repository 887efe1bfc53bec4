//! Whether Kubernetes knows a token, and lets its user do what it asks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::Method;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::identity::kube::client::{AskError, brief};

/// How long a yes holds. A no is asked for again each time.
const HOLDS: Duration = Duration::from_secs(10);

/// Answers remembered; when there are more, all are asked for again.
const REMEMBERED: usize = 256;

/// Asks the API server.
pub struct Authorizer {
    client: Client,
    /// What was allowed, and until when.
    allowed: Mutex<HashMap<Request, Instant>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Request {
    token: String,
    verb: String,
    path: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Denial {
    #[error("a Kubernetes bearer token is needed")]
    Unknown,
    #[error(
        "{user} may not {verb} {path}: a ClusterRole with nonResourceURLs [\"{path}\"] and verbs [\"{verb}\"] would allow it"
    )]
    NotAllowed {
        user: String,
        verb: String,
        path: String,
    },
    #[error("the API server could not be asked: {0}")]
    NobodyToAsk(AskError),
}

impl Authorizer {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            allowed: Mutex::default(),
        }
    }

    /// Whether the token's user may use this method on this path.
    pub async fn check(
        &self,
        token: Option<&str>,
        method: &Method,
        path: &str,
    ) -> Result<(), Denial> {
        let request = Request {
            token: token.ok_or(Denial::Unknown)?.to_owned(),
            verb: method.as_str().to_ascii_lowercase(),
            path: path.to_owned(),
        };
        if self.is_remembered(&request) {
            return Ok(());
        }
        let user = self.user(&request.token).await?;
        self.may(user, &request).await?;
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if allowed.len() >= REMEMBERED {
            allowed.clear();
        }
        allowed.insert(request, Instant::now() + HOLDS);
        Ok(())
    }

    fn is_remembered(&self, request: &Request) -> bool {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        allowed.retain(|_, until| *until > now);
        allowed.contains_key(request)
    }

    async fn user(&self, token: &str) -> Result<UserInfo, Denial> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = brief(|| async { reviews.create(&PostParams::default(), &review).await })
            .await
            .map_err(Denial::NobodyToAsk)?
            .status
            .unwrap_or_default();
        match status.user {
            Some(user) if status.authenticated == Some(true) => Ok(user),
            _ => Err(Denial::Unknown),
        }
    }

    async fn may(&self, user: UserInfo, request: &Request) -> Result<(), Denial> {
        let name = user.username.clone().unwrap_or_default();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                uid: user.uid,
                groups: user.groups,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(request.path.clone()),
                    verb: Some(request.verb.clone()),
                }),
                resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = brief(|| async { reviews.create(&PostParams::default(), &review).await })
            .await
            .map_err(Denial::NobodyToAsk)?
            .status
            .unwrap_or_default();
        if status.allowed && status.denied != Some(true) {
            return Ok(());
        }
        Err(Denial::NotAllowed {
            user: name,
            verb: request.verb.clone(),
            path: request.path.clone(),
        })
    }
}
