//! What systemd is told (sd_notify(3)). Without systemd all of this does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon answers.
pub fn ready() {
    send(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The daemon ends; it may take `at_most`.
pub fn stopping(at_most: Duration) {
    let micros = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    send(&[
        NotifyState::Stopping,
        NotifyState::Status("finishing the calls in hand"),
        NotifyState::ExtendTimeoutUsec(micros),
    ]);
}

/// Feeds the watchdog as long as the runtime runs tasks; ends at once when
/// there is none.
pub async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut tick = tokio::time::interval(period / 2);
    loop {
        tick.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
