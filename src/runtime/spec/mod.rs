//! OCI runtime spec of a container.

use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{Process, Spec};

use super::{Connection, ContainerRequest, Error, ExecRequest, Result};

/// The runtime spec of a container. Its snapshot (key `request.id`) must exist;
/// it is looked into only when the user has to be looked up.
pub(crate) async fn build(
    _c: &Connection,
    request: &ContainerRequest,
    _image_config: &ImageConfiguration,
) -> Result<Spec> {
    Err(Error::Spec {
        container: request.id.clone(),
        cause: "not built yet".into(),
    })
}

/// The process of an exec: the container's own with the request's changes. A
/// user is looked up in the running container's files, found through the task's `pid`.
pub(crate) async fn exec_process(
    _container: &Spec,
    _pid: u32,
    request: &ExecRequest,
) -> Result<Process> {
    Err(Error::Spec {
        container: request.id.clone(),
        cause: "not built yet".into(),
    })
}
