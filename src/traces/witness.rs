//! Follows connections, and hands what became of each to the collector.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Config;
use super::collector::{Collector, EXPORT_DEADLINE};
use super::story::Story;
use crate::events::{Event, Happening, Witness};
use crate::ids::{ConnectionId, InstanceId};

/// Connections that are followed at a time. Past it others are not traced.
const CONNECTIONS_MAX: usize = 8192;

/// Spans that wait for the collector. Past it they are dropped: a collector that is away must cost nobody anything.
const SPANS_PENDING_MAX: usize = 4096;

/// How long spans are collected before they are sent together.
const SENT_EVERY: Duration = Duration::from_secs(2);

/// For what is left to send when the server ends.
const FLUSH_DEADLINE: Duration = Duration::from_secs(8);

/// Follows connections.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    live: Mutex<HashMap<ConnectionId, Story>>,
    tasks: TaskTracker,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Traces {
    /// Follows connections from now on, if that is configured.
    ///
    /// # Errors
    /// The collector cannot even be asked.
    pub fn start(config: &Config, instance: &InstanceId) -> Result<Option<Arc<Self>>, String> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let tasks = TaskTracker::new();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(tasks.clone())?)
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_timeout(EXPORT_DEADLINE)
            .build()
            .map_err(|error| error.to_string())?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_PENDING_MAX)
            .with_scheduled_delay(SENT_EVERY);
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", "coracle"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_string()),
        ]);
        let sampler = Sampler::TraceIdRatioBased(config.sample_ratio.into());
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource.build())
            .build();
        let tracer = provider.tracer("coracle");
        Ok(Some(Arc::new(Self { provider, tracer, live: Mutex::default(), tasks })))
    }

    /// Sends what is left. Nothing is followed any more.
    pub async fn end(&self) {
        self.live().clear();
        let provider = self.provider.clone();
        let sent = self.tasks.spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_DEADLINE));
        self.tasks.close();
        let is_sent = matches!(timeout(FLUSH_DEADLINE, sent).await, Ok(Ok(Ok(()))));
        if !is_sent {
            tracing::warn!("the last traces could not be sent");
        }
    }

    fn live(&self) -> MutexGuard<'_, HashMap<ConnectionId, Story>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Traces {
    fn hear(&self, event: &Event<'_>) {
        let Some(connection) = event.connection else { return };
        let mut live = self.live();
        if let Happening::Connected { server } = event.what {
            if live.len() < CONNECTIONS_MAX
                && let Some(story) = Story::begin(&self.tracer, event, connection, *server)
            {
                live.insert(connection.clone(), story);
            }
            return;
        }
        let Some(story) = live.get_mut(connection) else { return };
        story.hear(&self.tracer, event);
        let finished = if story.is_over() { live.remove(connection) } else { None };
        drop(live);
        if let Some(story) = finished {
            story.end(event.at);
        }
        if let Happening::LoggedIn { .. } = event.what
            && let Some(trace) = self.live().get(connection).map(Story::trace_id)
        {
            tracing::info!(%connection, %trace, "traced");
        }
    }
}
