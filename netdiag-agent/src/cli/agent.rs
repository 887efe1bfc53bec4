//! `netdiag agent`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
SIGHUP reads the configuration again, SIGTERM ends in order.

Examples:
  netdiag agent --print-config > /etc/netdiag/agent.yaml
  netdiag agent --config /etc/netdiag/agent.yaml")]
pub(super) struct AgentArgs {
    /// YAML; without it the settings --print-config shows
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the default configuration and end
    #[arg(long, conflicts_with = "config")]
    print_config: bool,
}

/// The node mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// `None`: the defaults.
    pub config: Option<PathBuf>,
    pub print_config: bool,
}

impl From<AgentArgs> for Agent {
    fn from(args: AgentArgs) -> Self {
        Self {
            config: args.config,
            print_config: args.print_config,
        }
    }
}
