//! Several measurements of one thing.

use serde_json::{Value, json};

#[derive(Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn one(sample: f64) -> Self {
        Self(vec![sample])
    }

    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
        self.0.sort_by(f64::total_cmp);
    }

    /// The smallest sample that this part of all samples does not exceed.
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn json(&self) -> Value {
        json!({"p50": self.median(), "min": self.quantile(0.0), "p99": self.quantile(0.99), "max": self.quantile(1.0), "n": self.0.len()})
    }
}
