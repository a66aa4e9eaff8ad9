//! Who asked for what is being done: told to histories, decided by the edge.

tokio::task_local! {
    static ACTOR: String;
}

/// Runs a call in the name of somebody.
pub async fn scope<T>(actor: String, call: impl Future<Output = T>) -> T {
    ACTOR.scope(actor, call).await
}

/// Whoever asked for the call that runs; without a call, the user of this process.
pub fn current() -> String {
    ACTOR
        .try_with(Clone::clone)
        .unwrap_or_else(|_| of_user(nix::unistd::geteuid().as_raw()))
}

/// A user of this host: its name, or its number.
pub fn of_user(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => user.name,
        _ => format!("uid:{uid}"),
    }
}

/// What the daemon does by itself.
pub const CONTROLLER: &str = "kukeond";
