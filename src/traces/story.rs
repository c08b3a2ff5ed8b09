//! What is told of one connection, as spans: the connection's own, and below it what took its time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use crate::events::{Event, Happening, Phase, Proof};
use crate::ids::ConnectionId;

/// One connection, from its first byte until its container is removed.
pub(super) struct Story {
    root: Span,
    context: Context,
    /// When the last thing before the login was done: from then on the next one takes its time.
    at: SystemTime,
    sessions: HashMap<u32, Begun>,
    /// Containers that are still to be removed.
    containers: usize,
    is_disconnected: bool,
}

/// A session whose program is not done yet.
struct Begun {
    at: SystemTime,
    first_output: Option<SystemTime>,
}

impl Story {
    /// `None` where this one is not sampled.
    pub(super) fn begin(
        tracer: &SdkTracer,
        event: &Event<'_>,
        connection: &ConnectionId,
        server: SocketAddr,
    ) -> Option<Self> {
        let attributes = [
            KeyValue::new("coracle.connection", connection.to_string()),
            KeyValue::new("client.address", event.client.ip().to_string()),
            KeyValue::new("client.port", i64::from(event.client.port())),
            KeyValue::new("server.address", server.ip().to_string()),
            KeyValue::new("server.port", i64::from(server.port())),
        ];
        let builder = SpanBuilder::from_name("connection")
            .with_kind(SpanKind::Server)
            .with_start_time(event.at)
            .with_attributes(attributes);
        let root = tracer.build_with_context(builder, &Context::new());
        if !root.is_recording() {
            return None;
        }
        let context = Context::new().with_remote_span_context(root.span_context().clone());
        let sessions = HashMap::new();
        Some(Self { root, context, at: event.at, sessions, containers: 0, is_disconnected: false })
    }

    pub(super) fn trace_id(&self) -> TraceId {
        self.root.span_context().trace_id()
    }

    /// Whether nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.is_disconnected && self.containers == 0
    }

    pub(super) fn end(mut self, at: SystemTime) {
        self.root.end_with_timestamp(at);
    }

    pub(super) fn hear(&mut self, tracer: &SdkTracer, event: &Event<'_>) {
        let teller = Teller { tracer, context: &self.context };
        match event.what {
            Happening::Greeted { version, .. } => {
                let attributes = vec![KeyValue::new("coracle.client.version", version.clone())];
                teller.span("handshake", self.at, event.at, attributes);
                self.at = event.at;
            }
            Happening::Proven { method, outcome, .. } => {
                let outcome = match outcome {
                    Proof::Accepted => "accepted",
                    Proof::Partial => "partial",
                    Proof::Refused => "refused",
                };
                let attributes =
                    vec![KeyValue::new("coracle.method", *method), KeyValue::new("coracle.outcome", outcome)];
                teller.span("auth", self.at, event.at, attributes);
                self.at = event.at;
            }
            Happening::LoggedIn { methods, profile, .. } => {
                self.root
                    .set_attribute(KeyValue::new("user.name", event.user.unwrap_or_default().to_owned()));
                self.root.set_attribute(KeyValue::new("coracle.methods", methods.clone()));
                self.root.set_attribute(KeyValue::new("coracle.profile", profile.clone()));
                self.root.add_event_with_timestamp("logged in", event.at, Vec::new());
            }
            Happening::Launched { way, outcome, took, phases, .. } => {
                self.containers += usize::from(*outcome == "ready" && *way != "persistent");
                teller.launch(event.at, *took, (way, outcome), phases);
            }
            Happening::Removed { is_gone, took } => {
                self.containers = self.containers.saturating_sub(1);
                let begun = event.at.checked_sub(*took).unwrap_or(event.at);
                teller.span("removal", begun, event.at, vec![KeyValue::new("coracle.gone", *is_gone)]);
            }
            Happening::Disconnected { stage, error, .. } => {
                self.root.set_attribute(KeyValue::new("coracle.stage", *stage));
                if let Some(error) = error {
                    self.root.set_status(Status::error(error.clone()));
                }
                self.is_disconnected = true;
            }
            _ => self.hear_of_session(tracer, event),
        }
    }

    fn hear_of_session(&mut self, tracer: &SdkTracer, event: &Event<'_>) {
        match event.what {
            Happening::SessionStarted { session, .. } => {
                self.sessions.insert(*session, Begun { at: event.at, first_output: None });
            }
            Happening::FirstOutput { session, .. } => {
                if let Some(begun) = self.sessions.get_mut(session) {
                    begun.first_output = Some(event.at);
                }
            }
            Happening::SessionEnded { session, request, outcome, exit, received, sent, .. } => {
                let Some(begun) = self.sessions.remove(session) else { return };
                let count = |bytes: &u64| i64::try_from(*bytes).unwrap_or(i64::MAX);
                let attributes = vec![
                    KeyValue::new("coracle.session", i64::from(*session)),
                    KeyValue::new("coracle.kind", *request),
                    KeyValue::new("coracle.outcome", *outcome),
                    KeyValue::new("coracle.exit", exit.clone()),
                    KeyValue::new("coracle.received_bytes", count(received)),
                    KeyValue::new("coracle.sent_bytes", count(sent)),
                ];
                let teller = Teller { tracer, context: &self.context };
                let mut span = teller.begin("session", begun.at, attributes);
                if let Some(first_output) = begun.first_output {
                    span.add_event_with_timestamp("first output", first_output, Vec::new());
                }
                if *outcome == "failed" {
                    span.set_status(Status::error(exit.clone()));
                }
                span.end_with_timestamp(event.at);
            }
            _ => {}
        }
    }
}

/// Makes spans below another.
struct Teller<'a> {
    tracer: &'a SdkTracer,
    context: &'a Context,
}

impl Teller<'_> {
    fn begin(&self, name: &'static str, at: SystemTime, attributes: Vec<KeyValue>) -> Span {
        let builder = SpanBuilder::from_name(name).with_start_time(at).with_attributes(attributes);
        self.tracer.build_with_context(builder, self.context)
    }

    fn span(&self, name: &'static str, from: SystemTime, to: SystemTime, attributes: Vec<KeyValue>) {
        self.begin(name, from, attributes).end_with_timestamp(to);
    }

    fn launch(
        &self,
        at: SystemTime,
        took: Duration,
        (way, outcome): (&'static str, &'static str),
        phases: &[Phase],
    ) {
        let attributes = vec![KeyValue::new("coracle.way", way), KeyValue::new("coracle.outcome", outcome)];
        let mut launch = self.begin("launch", at.checked_sub(took).unwrap_or(at), attributes);
        let context = Context::new().with_remote_span_context(launch.span_context().clone());
        let below = Teller { tracer: self.tracer, context: &context };
        for phase in phases {
            below.span(phase.name, phase.begun, phase.begun + phase.took, Vec::new());
        }
        if outcome != "ready" {
            launch.set_status(Status::error(outcome));
        }
        launch.end_with_timestamp(at);
    }
}
