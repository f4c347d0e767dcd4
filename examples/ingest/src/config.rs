//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::pipeline::Limits;

/// A recording service: takes WAV recordings, and makes levels, loudness, silences and a waveform
/// of each, once.
#[derive(Debug, Parser)]
#[command(name = "ingest", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service until SIGTERM or SIGINT
    Serve(Box<Serve>),
    /// Process one recording, without a service
    Process(Process),
    /// Give a failed recording another chance
    Retry {
        /// The recording
        id: String,
        /// The data directory of the service
        #[arg(long)]
        data: PathBuf,
    },
    /// For a container's probe: exit 0 if the service gave a sign of life lately, 1 if not
    Alive {
        /// The data directory of the service
        #[arg(long)]
        data: PathBuf,
        /// The service's own heartbeat file, if it was given one
        #[arg(long)]
        heartbeat: Option<PathBuf>,
        /// How old the sign may be
        #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
        max_age: Duration,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Serve {
    /// Where everything is kept; created if missing. Several services may share it
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Write the address of the service to this file once it listens
    #[arg(long, value_name = "FILE")]
    pub(crate) address_file: Option<PathBuf>,
    /// Where the sign of life goes; services that share a data directory need one each
    #[arg(long, value_name = "FILE")]
    pub(crate) heartbeat: Option<PathBuf>,
    /// The largest recording
    #[arg(long, value_name = "BYTES", default_value_t = 500_000_000)]
    pub(crate) size_limit: u64,
    /// With less than this free it is unhealthy, and takes no uploads
    #[arg(long, value_name = "BYTES", default_value_t = 500 << 20)]
    pub(crate) min_free: u64,
    /// A client that sends nothing for so long is given up
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    pub(crate) idle_timeout: Duration,
    /// An upload that takes longer is given up, however steadily it comes
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "14400")]
    pub(crate) upload_timeout: Duration,
    /// Recordings that may be received at the same time
    #[arg(long, default_value_t = 32)]
    pub(crate) uploads: usize,
    /// Chunks that were never put together are removed when they are older
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "86400")]
    pub(crate) chunk_age: Duration,
    /// How often to look for recordings that others put into the inbox
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub(crate) poll: Duration,
    /// The pause before a second attempt, and before trying a full disk again
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub(crate) retry_delay: Duration,
    /// After SIGTERM the current work may go on for so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "20")]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

#[derive(Args, Debug)]
pub(crate) struct Process {
    /// The recording, a WAV file
    pub(crate) file: PathBuf,
    /// The directory to create or replace
    #[arg(long)]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LimitArgs {
    /// Time for reading and decoding
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    decode_timeout: Duration,
    /// Time for the analysis
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    analysis_timeout: Duration,
    /// Time for drawing the waveform
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    picture_timeout: Duration,
    /// Time for saving the result
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    publish_timeout: Duration,
}

impl LimitArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            decode: self.decode_timeout,
            analysis: self.analysis_timeout,
            picture: self.picture_timeout,
            publish: self.publish_timeout,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds, such as 0.5".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|e| e.to_string())
}
