//! What may go wrong with an answer.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The status the real server gives: 401, 403, 404, 410, 429, 500, 503.
    Status(u16),
    /// The answer comes so much later.
    Slow(Duration),
    /// No answer, until the faults are healed.
    Silence,
    /// The connection breaks before the answer.
    Break,
}
