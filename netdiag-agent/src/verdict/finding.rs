//! What a rule says of a case, built up word by word.

use super::types::{
    Cause, Component, Confidence, Evidence, HopName, Outcome, Remediation, Suspect,
};

/// What a rule says.
#[derive(Clone, Debug)]
pub struct Finding {
    pub outcome: Outcome,
    pub cause: Option<Cause>,
    pub confidence: Confidence,
    /// Index into the flow's drops: the fatal one.
    pub drop: Option<usize>,
    /// The hop that answered with a refusal.
    pub refused_at: Option<HopName>,
    pub component: Option<Component>,
    pub evidence: Vec<Evidence>,
    pub suspects: Vec<Suspect>,
    pub caveats: Vec<String>,
    pub remediation: Option<Remediation>,
    /// The remedy's commands say themselves where they run; else it is where the packet died.
    pub placed: bool,
}

impl Finding {
    pub fn new(outcome: Outcome, cause: Cause, confidence: Confidence) -> Self {
        Self {
            outcome,
            cause: Some(cause),
            confidence,
            drop: None,
            refused_at: None,
            component: None,
            evidence: Vec::new(),
            suspects: Vec::new(),
            caveats: Vec::new(),
            remediation: None,
            placed: false,
        }
    }

    /// No cause is needed.
    pub(super) fn plain(outcome: Outcome) -> Self {
        Self {
            cause: None,
            ..Self::new(outcome, Cause(""), Confidence::Proven)
        }
    }

    #[must_use]
    pub fn remedy(
        mut self,
        summary: impl Into<String>,
        commands: impl IntoIterator<Item = String>,
    ) -> Self {
        self.remediation = Some(Remediation {
            summary: summary.into(),
            commands: commands.into_iter().collect(),
        });
        self
    }

    /// As [`Self::remedy`], with commands for more than one namespace.
    #[must_use]
    pub fn remedy_placed(
        self,
        summary: impl Into<String>,
        commands: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            placed: true,
            ..self.remedy(summary, commands)
        }
    }

    #[must_use]
    pub fn component(mut self, component: Component) -> Self {
        self.component = Some(component);
        self
    }

    #[must_use]
    pub fn evidence(
        mut self,
        source: impl Into<String>,
        count: Option<u64>,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        self.evidence.push(Evidence {
            source: source.into(),
            count,
            value: None,
            detail: (!detail.is_empty()).then_some(detail),
        });
        self
    }

    #[must_use]
    pub fn counter(mut self, source: impl Into<String>, value: u64) -> Self {
        self.evidence.push(Evidence {
            source: source.into(),
            count: None,
            value: Some(value),
            detail: None,
        });
        self
    }

    /// A value that stands, where a counter rises.
    #[must_use]
    pub fn gauge(mut self, source: impl Into<String>, value: u64) -> Self {
        self.evidence.push(Evidence {
            source: source.into(),
            count: None,
            value: Some(value),
            detail: Some("stands at".to_owned()),
        });
        self
    }

    #[must_use]
    pub fn suspect(mut self, name: &str, reason: impl Into<String>) -> Self {
        self.suspects.push(Suspect {
            name: name.to_owned(),
            reason: reason.into(),
        });
        self
    }

    #[must_use]
    pub fn caveat(mut self, text: impl Into<String>) -> Self {
        self.caveats.push(text.into());
        self
    }
}
