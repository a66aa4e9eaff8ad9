//! The first process of a container: argv, environment, working directory.

use oci_spec::image::Config;

use super::Cause;
use crate::runtime::ContainerRequest;

/// Search path where neither image nor spec set one.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// argv: `command` replaces ENTRYPOINT and, as CMD was meant for that, CMD too;
/// `args` alone replace CMD only.
pub(super) fn argv(request: &ContainerRequest, image: &Config) -> Result<Vec<String>, Cause> {
    let spec = &request.spec;
    let mut argv: Vec<String> = Vec::new();
    if let Some(command) = &spec.command {
        argv.push(command.clone());
        argv.extend(spec.args.iter().cloned());
    } else {
        argv.extend(image.entrypoint().iter().flatten().cloned());
        if spec.args.is_empty() {
            argv.extend(image.cmd().iter().flatten().cloned());
        } else {
            argv.extend(spec.args.iter().cloned());
        }
    }
    match argv.first() {
        None => Err(format!(
            "there is no command to run: image {} names none, and neither does the spec",
            request.image
        )),
        Some(program) if program.is_empty() => Err("the command is empty".into()),
        Some(_) => match argv.iter().find(|a| a.contains('\0')) {
            Some(bad) => Err(format!("argument {bad:?} contains a NUL byte")),
            None => Ok(argv),
        },
    }
}

/// Environment: the image's, a search path, who the container is, then the user's.
pub(super) fn environment(
    request: &ContainerRequest,
    image: &Config,
) -> Result<Vec<String>, Cause> {
    let mut env: Vec<String> = Vec::new();
    // An image's own mistakes are not the user's: what is no variable is left out.
    for entry in image.env().iter().flatten() {
        let _ = set(&mut env, entry);
    }
    if !env.iter().any(|e| e.starts_with("PATH=")) {
        env.push(PATH.into());
    }
    let cell = &request.cell;
    for (name, value) in [
        ("KUKEON_CELL_NAME", cell.cell.as_str()),
        ("KUKEON_CONTAINER_ID", request.spec.id.as_str()),
        ("KUKEON_REALM", cell.realm.as_str()),
        ("KUKEON_SPACE", cell.space.as_str()),
        ("KUKEON_STACK", cell.stack.as_str()),
        ("KUKEON_CGROUP_PATH", request.cgroup_path.as_str()),
    ] {
        set(&mut env, &format!("{name}={value}"))?;
    }
    for entry in &request.spec.env {
        set(&mut env, entry)?;
    }
    Ok(env)
}

/// Adds `NAME=value` in the place of an earlier value of that name.
pub(super) fn set(env: &mut Vec<String>, entry: &str) -> Result<(), Cause> {
    // The value may be a secret: messages name the variable only.
    let name = match entry.split_once('=') {
        Some((name, _)) if !name.is_empty() => name,
        _ => return Err("environment entries have the form NAME=value".into()),
    };
    if entry.contains('\0') {
        return Err(format!("environment variable {name} contains a NUL byte"));
    }
    let old = env
        .iter_mut()
        .find(|e| e.strip_prefix(name).is_some_and(|r| r.starts_with('=')));
    match old {
        Some(old) => *old = entry.to_owned(),
        None => env.push(entry.to_owned()),
    }
    Ok(())
}

/// Working directory: the spec's, the image's, or the root.
pub(super) fn working_dir(request: &ContainerRequest, image: &Config) -> Result<String, Cause> {
    let own = request.spec.working_dir.as_deref();
    match own.or(image.working_dir().as_deref()) {
        None | Some("") => Ok("/".into()),
        Some(dir) if dir.starts_with('/') => Ok(dir.into()),
        // Images may say so; the specification wants it absolute.
        Some(dir) if own.is_none() => Ok(format!("/{dir}")),
        Some(dir) => Err(format!("working directory {dir:?} is not absolute")),
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ConfigBuilder;

    use super::super::tests::request;
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> Config {
        ConfigBuilder::default()
            .entrypoint(strings(entrypoint))
            .cmd(strings(cmd))
            .build()
            .unwrap()
    }

    #[test]
    fn argv_follows_entrypoint_and_cmd() {
        let image = image(&["/entry"], &["cmd"]);
        for (command, args, want) in [
            (None, &[][..], &["/entry", "cmd"][..]),
            (None, &["a", "b"], &["/entry", "a", "b"]),
            (Some("/own"), &[], &["/own"]),
            (Some("/own"), &["a"], &["/own", "a"]),
        ] {
            let mut request = request();
            request.spec.command = command.map(Into::into);
            request.spec.args = strings(args);
            assert_eq!(argv(&request, &image).unwrap(), want);
        }
    }

    #[test]
    fn a_container_without_a_command_is_refused_and_names_its_image() {
        let request = request();
        let error = argv(&request, &Config::default()).unwrap_err();
        assert!(error.contains(&request.image), "{error}");
        assert!(argv(&request, &image(&[""], &[])).is_err());
    }

    #[test]
    fn the_users_environment_wins_and_order_is_kept() {
        let image = ConfigBuilder::default()
            .env(strings(&[
                "FOO=image",
                "BAR=image",
                "=bad",
                "worse",
                "FOO=again",
            ]))
            .build()
            .unwrap();
        let mut request = request();
        request.spec.env = strings(&["BAR=user", "KUKEON_REALM=mine", "NEW=a=b"]);
        let env = environment(&request, &image).unwrap();
        assert_eq!(
            env,
            [
                "FOO=again",
                "BAR=user",
                PATH,
                "KUKEON_CELL_NAME=hello",
                "KUKEON_CONTAINER_ID=web",
                "KUKEON_REALM=mine",
                "KUKEON_SPACE=lab",
                "KUKEON_STACK=default",
                "KUKEON_CGROUP_PATH=/kukeon/main/lab/default/hello/web",
                "NEW=a=b",
            ]
        );
    }

    #[test]
    fn an_images_own_path_stays() {
        let image = ConfigBuilder::default()
            .env(strings(&["PATH=/bin"]))
            .build()
            .unwrap();
        let env = environment(&request(), &image).unwrap();
        assert_eq!(env.iter().filter(|e| e.starts_with("PATH=")).count(), 1);
        assert_eq!(env[0], "PATH=/bin");
    }

    #[test]
    fn bad_variables_are_refused_without_showing_values() {
        for bad in ["", "NOVALUE", "=x", "SECRET=hunter2\0"] {
            let mut request = request();
            request.spec.env = strings(&[bad]);
            let error = environment(&request, &Config::default()).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_working_directory_is_absolute() {
        let image = |dir: &str| ConfigBuilder::default().working_dir(dir).build().unwrap();
        let mut request = request();
        for (dir, want) in [("", "/"), ("/srv", "/srv"), ("srv", "/srv")] {
            assert_eq!(working_dir(&request, &image(dir)).unwrap(), want);
        }
        request.spec.working_dir = Some("/own".into());
        assert_eq!(working_dir(&request, &image("/srv")).unwrap(), "/own");
        request.spec.working_dir = Some("own".into());
        assert!(working_dir(&request, &image("/srv")).is_err());
    }
}
