//! Tasks: the running side of a container.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CreateTaskRequest, DeleteResponse, DeleteTaskRequest, GetRequest, KillRequest,
    ListTasksRequest, StartRequest, WaitRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Status};
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use jiff::Timestamp;

use super::{making, runc, snapshots};
use crate::model::{ObservedTask, TaskExit, TaskState};
use crate::runtime::{Connection, Error, Result, TaskRequest, log};

const SIGKILL: i32 = 9;
/// How long a process may take to end after SIGKILL; more means it hangs in the kernel.
const KILL: Duration = Duration::from_secs(15);
/// Making a task starts a shim and the low-level runtime; slow on a loaded disk.
const CREATE: Duration = Duration::from_secs(120);

pub fn client(c: &Connection) -> TasksClient<Channel> {
    TasksClient::new(c.channel.clone()).max_decoding_message_size(usize::MAX)
}

/// The task of a container; `None` when there is none.
pub async fn get(c: &Connection, namespace: &str, id: &str) -> Result<Option<ObservedTask>> {
    let request = GetRequest {
        container_id: id.into(),
        ..Default::default()
    };
    match client(c).get(c.call(namespace, request)).await {
        Ok(response) => Ok(response.into_inner().process.as_ref().map(observe)),
        Err(s) if s.code() == Code::NotFound => Ok(None),
        Err(s) => Err(c.error(format!("reading task {id}"), &s)),
    }
}

/// All tasks of a namespace by container id.
pub async fn list(c: &Connection, namespace: &str) -> Result<HashMap<String, ObservedTask>> {
    let processes = processes(c, namespace).await?;
    Ok(processes
        .into_iter()
        .map(|p| (p.id.clone(), observe(&p)))
        .collect())
}

/// Ids of all tasks of a namespace.
pub async fn ids(c: &Connection, namespace: &str) -> Result<Vec<String>> {
    let processes = processes(c, namespace).await?;
    Ok(processes.into_iter().map(|p| p.id).collect())
}

async fn processes(c: &Connection, namespace: &str) -> Result<Vec<Process>> {
    client(c)
        .list(c.call(namespace, ListTasksRequest::default()))
        .await
        .map(|r| r.into_inner().tasks)
        .map_err(|s| c.error(format!("listing tasks of {namespace}"), &s))
}

/// Makes a task. One that is made or runs already is fine; an ended one is replaced.
pub async fn create(c: &Connection, program: &Path, request: &TaskRequest) -> Result<()> {
    let (namespace, id) = (request.namespace.as_str(), request.id.as_str());
    log_directory(&request.log)?;
    let rootfs = snapshots::mounts(c, namespace, id).await?;
    let output = log::uri(program, &request.log);
    let message = CreateTaskRequest {
        container_id: id.into(),
        rootfs,
        stdout: output.clone(),
        stderr: output,
        ..Default::default()
    };
    let create = || async {
        client(c)
            .create(c.call_within(namespace, message.clone(), CREATE))
            .await
    };
    if making::settled(c, namespace, id).await? {
        return Ok(());
    }
    let mut result = create().await;
    if let Err(status) = &result
        && making::is_taken(status.message())
    {
        if making::gone(c, namespace, id, status.message()).await? {
            return Ok(());
        }
        result = create().await;
    }
    if matches!(&result, Err(s) if s.code() == Code::AlreadyExists) {
        match get(c, namespace, id).await?.map(|t| t.state) {
            Some(TaskState::Created | TaskState::Running | TaskState::Paused) => return Ok(()),
            _ => {
                remove(c, namespace, id).await?;
                result = create().await;
            }
        }
    }
    match result {
        Ok(_) => Ok(()),
        Err(s) => Err(failure(c, "making", id, &s)),
    }
}

/// The log writer makes its file, but not the way to it.
fn log_directory(log: &Path) -> Result<()> {
    let Some(parent) = log.parent() else {
        return Ok(());
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(parent)
        .map_err(|e| Error::Other {
            what: format!("making the log directory {}", parent.display()),
            cause: e.to_string(),
        })
}

/// Starts the process of a made task. One that runs already is fine.
pub async fn start(c: &Connection, namespace: &str, id: &str) -> Result<()> {
    let request = StartRequest {
        container_id: id.into(),
        ..Default::default()
    };
    let Err(status) = client(c).start(c.call(namespace, request)).await else {
        return Ok(());
    };
    if let Ok(Some(task)) = get(c, namespace, id).await
        && matches!(task.state, TaskState::Running | TaskState::Paused)
    {
        return Ok(());
    }
    Err(failure(c, "starting", id, &status))
}

/// The error for a task or exec that could not be made or started.
pub fn failure(c: &Connection, doing: &str, id: &str, status: &Status) -> Error {
    if let Some(error) = runc::command_error(id, status.message()) {
        return error;
    }
    match c.error_on(
        format!("{doing} task {id}"),
        &format!("container {id}"),
        status,
    ) {
        Error::Other { what, cause } => Error::Other {
            what,
            cause: runc::clean(&cause).to_owned(),
        },
        other => other,
    }
}

/// Sends a signal; a task that is gone or has ended is no error.
pub async fn signal(
    c: &Connection,
    namespace: &str,
    id: &str,
    signal: i32,
    all: bool,
) -> Result<()> {
    let request = KillRequest {
        container_id: id.into(),
        signal: u32::try_from(signal).map_err(|_| Error::Other {
            what: format!("signalling task {id}"),
            cause: format!("{signal} is no signal number"),
        })?,
        all,
        ..Default::default()
    };
    match client(c).kill(c.call(namespace, request)).await {
        Ok(_) => Ok(()),
        Err(s) if s.code() == Code::NotFound => Ok(()),
        Err(s) => Err(c.error(format!("signalling task {id}"), &s)),
    }
}

/// Waits, without a deadline, until the task has ended.
pub async fn wait(c: &Connection, namespace: &str, id: &str) -> Result<TaskExit> {
    let request = WaitRequest {
        container_id: id.into(),
        ..Default::default()
    };
    let response = client(c)
        .wait(c.request(namespace, request))
        .await
        .map_err(|s| c.error_on(format!("waiting for task {id}"), &format!("task {id}"), &s))?
        .into_inner();
    Ok(exit(response.exit_status, response.exited_at))
}

/// Removes a task, killing it when it has not ended; `None` when there is none.
pub async fn remove(c: &Connection, namespace: &str, id: &str) -> Result<Option<TaskExit>> {
    // Nearly always the task has ended: one call instead of three.
    match delete(c, namespace, id).await {
        Ok(response) => return Ok(Some(exit(response.exit_status, response.exited_at))),
        Err(s) if s.code() == Code::NotFound => return Ok(None),
        Err(s) if s.code() == Code::Unavailable => return Err(failure(c, "removing", id, &s)),
        Err(_) => {}
    }
    // To all: with the host's process namespace the first one's end ends nothing else.
    // A task that was made but not started has no others, and runc 1.1 fails on "all" there.
    let ended = async {
        if signal(c, namespace, id, SIGKILL, true).await.is_err() {
            signal(c, namespace, id, SIGKILL, false).await?;
        }
        match tokio::time::timeout(KILL, wait(c, namespace, id)).await {
            Ok(Ok(_) | Err(Error::NotFound(_))) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::InUse(format!(
                "task {id} did not end within {} s of SIGKILL",
                KILL.as_secs()
            ))),
        }
    }
    .await;
    match delete(c, namespace, id).await {
        Ok(response) => Ok(Some(exit(response.exit_status, response.exited_at))),
        Err(s) if s.code() == Code::NotFound => Ok(None),
        Err(s) => Err(ended
            .err()
            .unwrap_or_else(|| failure(c, "removing", id, &s))),
    }
}

async fn delete(c: &Connection, namespace: &str, id: &str) -> Result<DeleteResponse, Status> {
    let request = DeleteTaskRequest {
        container_id: id.into(),
    };
    client(c)
        .delete(c.call(namespace, request))
        .await
        .map(|r| r.into_inner())
}

fn observe(process: &Process) -> ObservedTask {
    let state = match process.status() {
        ProcessStatus::Created => TaskState::Created,
        ProcessStatus::Running => TaskState::Running,
        ProcessStatus::Paused | ProcessStatus::Pausing => TaskState::Paused,
        ProcessStatus::Stopped => TaskState::Stopped(exit(process.exit_status, process.exited_at)),
        ProcessStatus::Unknown => TaskState::Unknown,
    };
    ObservedTask {
        pid: process.pid,
        state,
    }
}

/// How a process ended. Without a sensible time of the server's it was now.
pub fn exit(status: u32, at: Option<prost_types::Timestamp>) -> TaskExit {
    let at = at
        .filter(|t| t.seconds > 0)
        .and_then(|t| Timestamp::new(t.seconds, t.nanos).ok())
        .unwrap_or_else(Timestamp::now);
    TaskExit {
        // Shims report at most 255; anything else stays a failure.
        code: i32::try_from(status).unwrap_or(255),
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_translated() {
        let process = |status: ProcessStatus| Process {
            pid: 7,
            status: status as i32,
            exit_status: 137,
            exited_at: Some(prost_types::Timestamp {
                seconds: 1_700_000_000,
                nanos: 5,
            }),
            ..Default::default()
        };
        assert_eq!(
            observe(&process(ProcessStatus::Created)).state,
            TaskState::Created
        );
        assert_eq!(
            observe(&process(ProcessStatus::Pausing)).state,
            TaskState::Paused
        );
        let TaskState::Stopped(exit) = observe(&process(ProcessStatus::Stopped)).state else {
            panic!();
        };
        assert_eq!((exit.code, exit.at.as_second()), (137, 1_700_000_000));
        assert_eq!(exit.at.subsec_nanosecond(), 5);
    }

    #[test]
    fn a_missing_exit_time_is_now() {
        let before = Timestamp::now();
        assert!(exit(0, None).at >= before);
        assert!(exit(0, Some(prost_types::Timestamp::default())).at >= before);
    }
}
