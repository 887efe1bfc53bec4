//! What the lines of a test runner tell: how many passed, and what each failed test said.

/// Lines of its output that are kept of a failed test.
const KEPT: usize = 5;
/// Characters that are kept of such a line.
const WIDTH: usize = 400;

/// Counts of tests, and the failed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    /// A failed test's name and the first lines of its output, as far as the runner tells them.
    pub failures: Vec<String>,
    /// Lines of the failure told last that are still wanted.
    wanted: usize,
}

impl Tally {
    /// Takes in a line of libtest's kind of output, or of the lab's own.
    pub fn see(&mut self, line: &str) {
        if let Some(counts) = line.trim_start().strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.wanted = 0;
        } else if let Some(name) = failed(line) {
            self.failures.push(name.to_owned());
            self.wanted = KEPT;
        } else if line == "failures:" {
            self.wanted = 0;
        } else if let (Some(text), false) = (self.failures.last_mut(), line.trim().is_empty())
            && self.wanted > 0
        {
            self.wanted -= 1;
            text.push_str("\n    ");
            text.extend(line.trim().chars().take(WIDTH));
        }
    }

    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }

    /// A program that failed without a failed test (it did not build, or it crashed) is one failure.
    pub fn failed_at_least_once(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

/// The name in `---- NAME stdout ----`, `---- NAME ----` or `FAIL  NAME`.
fn failed(line: &str) -> Option<&str> {
    let block = || line.strip_prefix("---- ")?.strip_suffix(" ----");
    let name = block().or_else(|| line.strip_prefix("FAIL  "))?;
    Some(name.trim_end_matches(" stdout"))
}

/// The number that stands before `word`.
pub fn count(line: &str, word: &str) -> u32 {
    let words: Vec<&str> = line
        .split([' ', ';', ',', ':'])
        .filter(|part| !part.is_empty())
        .collect();
    let at = words.windows(2).find(|pair| pair[1] == word);
    at.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.see(line);
        }
        tally
    }

    #[test]
    fn result_lines_are_summed_and_nothing_else() {
        let tally = tally(&[
            "running 3 tests",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 11 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
            "99 passed; 99 failed",
        ]);
        assert_eq!((tally.passed, tally.failed), (13, 3));
        assert!(tally.failures.is_empty(), "{tally:?}");
    }

    #[test]
    fn a_failed_test_is_told_by_name_and_first_words() {
        let tally = tally(&[
            "failures:",
            "",
            "---- speed::full stdout ----",
            "",
            "thread 'speed::full' panicked at speed.rs:32:66:",
            "run a pod: it did not start",
            "",
            "---- no_route_v4 ----",
            "  ✘ verdict 1 is UNKNOWN",
            "failures:",
            "    no_route_v4",
            "FAIL  mtu_v6",
            "nothing was seen",
        ]);
        assert_eq!(
            tally.failures,
            [
                "speed::full\n    thread 'speed::full' panicked at speed.rs:32:66:\n    run a pod: it did not start",
                "no_route_v4\n    ✘ verdict 1 is UNKNOWN",
                "mtu_v6\n    nothing was seen",
            ]
        );
    }

    #[test]
    fn of_a_long_output_the_beginning_is_kept() {
        let long = "x".repeat(10 * WIDTH);
        let lines = [&["---- a ----"][..], &[long.as_str(); 10]].concat();
        let text = tally(&lines).failures.concat();
        assert_eq!(text.lines().count(), 1 + KEPT);
        assert!(text.lines().all(|line| line.len() <= WIDTH + 4));
    }

    #[test]
    fn a_run_that_does_not_build_is_a_failure() {
        let failed = |failed| Tally {
            failed,
            ..Tally::default()
        };
        assert_eq!(Tally::default().failed_at_least_once(false).failed, 1);
        assert_eq!(failed(2).failed_at_least_once(false).failed, 2);
        assert_eq!(Tally::default().failed_at_least_once(true).failed, 0);
    }
}
