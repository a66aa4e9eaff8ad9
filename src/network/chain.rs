//! Runs the chain of a network (CNI specification, section 3).

use std::path::Path;

use serde_json::{Value, json};

use super::conflist::{Conflist, Version};
use super::exec::{Call, Plugins};
use super::{Error, Result, ids};

/// One attachment: a container, its namespace and its interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// Container id for plugins.
    pub container_id: &'a str,
    /// Network namespace; none when it is gone.
    pub netns: Option<&'a Path>,
    /// `CNI_ARGS`.
    pub arguments: &'a str,
}

/// A configuration in the version both it and its plugins allow.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    plugins: &'a Plugins,
    list: &'a Conflist,
    version: Version,
}

impl<'a> Chain<'a> {
    /// With a version that was settled before.
    pub fn new(plugins: &'a Plugins, list: &'a Conflist, version: Version) -> Self {
        Self {
            plugins,
            list,
            version,
        }
    }

    /// Settles the version: the highest of the list that all plugins speak. A
    /// list with a single version is taken at its word, without asking them.
    pub async fn negotiate(plugins: &'a Plugins, list: &'a Conflist) -> Result<Self> {
        let mut offered = list.versions.clone();
        if offered.len() > 1 {
            for plugin in list.plugin_types() {
                let spoken = plugins.versions(&list.name, plugin).await?;
                offered.retain(|version| spoken.contains(version));
            }
        }
        let version = offered.first().or(list.versions.last()).copied();
        let version = version.unwrap_or(Version::V0_4_0);
        Ok(Self::new(plugins, list, version))
    }

    /// The settled version.
    pub fn version(&self) -> Version {
        self.version
    }

    fn call<'b>(&'b self, command: &'static str, target: Target<'b>) -> Call<'b> {
        Call {
            command,
            network: &self.list.name,
            container_id: target.container_id,
            netns: target.netns,
            interface: ids::INTERFACE,
            arguments: target.arguments,
        }
    }

    /// ADD: every plugin in order, each with the result of the one before.
    /// Returns the last result. On failure nothing is undone here.
    pub async fn add(&self, target: Target<'_>) -> Result<Value> {
        let call = self.call("ADD", target);
        let mut result: Option<Value> = None;
        for (index, plugin) in self.list.plugin_types().enumerate() {
            let config = self
                .list
                .plugin_config(index, self.version, result.as_ref(), None);
            result = self.plugins.run(&call, plugin, &config).await?;
            if result.is_none() {
                return Err(Error::Plugin {
                    command: call.command.to_owned(),
                    plugin: plugin.to_owned(),
                    network: self.list.name.clone(),
                    code: 999,
                    cause: "it printed no result".to_owned(),
                });
            }
        }
        Ok(result.unwrap_or_default())
    }

    /// DEL: every plugin in reverse order, each with the result of the whole
    /// ADD. Goes on after a failure and reports all of them.
    pub async fn del(&self, target: Target<'_>, result: Option<&Value>) -> Result<()> {
        let call = self.call("DEL", target);
        let previous = result.filter(|_| self.version >= Version::V0_4_0);
        let mut errors = Vec::new();
        for (index, plugin) in self.list.plugin_types().enumerate().rev() {
            let config = self.list.plugin_config(index, self.version, previous, None);
            errors.extend(self.plugins.run(&call, plugin, &config).await.err());
        }
        Error::all(errors)
    }

    /// CHECK: every plugin in order, with the result of the whole ADD. Does
    /// nothing where the list or its version has no CHECK.
    pub async fn check(&self, target: Target<'_>, result: &Value) -> Result<()> {
        if self.list.disable_check || self.version < Version::V0_4_0 {
            return Ok(());
        }
        let call = self.call("CHECK", target);
        for (index, plugin) in self.list.plugin_types().enumerate() {
            let config = self
                .list
                .plugin_config(index, self.version, Some(result), None);
            self.plugins.run(&call, plugin, &config).await?;
        }
        Ok(())
    }

    /// GC: tells every plugin which container ids are still attached. Does
    /// nothing unless the list allows it and every plugin speaks 1.1.0.
    pub async fn collect(&self, valid: &[String]) -> Result<()> {
        if self.list.disable_gc || !self.list.versions.contains(&Version::V1_1_0) {
            return Ok(());
        }
        for plugin in self.list.plugin_types() {
            let spoken = self.plugins.versions(&self.list.name, plugin).await?;
            if !spoken.contains(&Version::V1_1_0) {
                return Ok(());
            }
        }
        let attachments: Vec<Value> = valid
            .iter()
            .map(|id| json!({ "containerID": id, "ifname": ids::INTERFACE }))
            .collect();
        let call = self.call(
            "GC",
            Target {
                container_id: "gc",
                netns: None,
                arguments: "",
            },
        );
        let mut errors = Vec::new();
        for (index, plugin) in self.list.plugin_types().enumerate() {
            let valid = ("cni.dev/valid-attachments", json!(attachments));
            let config = self
                .list
                .plugin_config(index, Version::V1_1_0, None, Some(valid));
            errors.extend(self.plugins.run(&call, plugin, &config).await.err());
        }
        Error::all(errors)
    }
}
