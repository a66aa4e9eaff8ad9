//! A machine in memory that notes what is done to it, and fails where told:
//! for what cannot be brought about on a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::key::Key;
use crate::api::v1::{self, object};
use crate::api::{Code, Error, Result};
use crate::apply;
use crate::client::{EventStream, Kukeon};
use crate::model::{AnyObject, CellState, ContainerState, ContainerStatus, ObjectRef};
use crate::scheme::{self, Secrets};

/// The machine.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectRef, AnyObject>,
    images: BTreeSet<String>,
    broken: BTreeSet<String>,
    done: Vec<String>,
}

impl Fake {
    /// Changes and removals since the last call.
    pub fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().done)
    }

    /// An image that is there.
    pub fn image(&self, name: &str) {
        self.0.lock().unwrap().images.insert(name.to_owned());
    }

    /// Makes changes of an object, or pulls of an image, fail; or work again.
    pub fn set_broken(&self, name: &str, broken: bool) {
        let set = &mut self.0.lock().unwrap().broken;
        match broken {
            true => set.insert(name.to_owned()),
            false => set.remove(name),
        };
    }

    /// A person applies a manifest.
    pub fn person(&self, text: &str) {
        for (_, object) in apply::order(apply::read(&[("t", text.as_bytes())]).unwrap()) {
            self.0.lock().unwrap().put(object);
        }
    }

    /// A live object.
    pub fn object(&self, kind: &str, name: &str) -> Option<AnyObject> {
        let state = self.0.lock().unwrap();
        let is = |o: &&AnyObject| o.kind() == kind && *o.name() == *name;
        state.objects.values().find(is).cloned()
    }

    /// Changes a live object behind everybody's back.
    pub fn edit(&self, kind: &str, name: &str, edit: impl FnOnce(&mut AnyObject)) {
        let mut state = self.0.lock().unwrap();
        let is = |o: &&mut AnyObject| o.kind() == kind && *o.name() == *name;
        edit(state.objects.values_mut().find(is).unwrap());
    }
}

impl State {
    /// What an apply does: parents are made, what runs is ready.
    fn put(&mut self, mut object: AnyObject) -> &'static str {
        if let AnyObject::Container(new) = object {
            let AnyObject::Cell(cell) = self.objects.get_mut(&new.at.into()).unwrap() else {
                unreachable!("a cell's reference leads to a cell");
            };
            cell.spec.containers.retain(|c| c.id != new.spec.id);
            cell.spec.containers.push(new.spec);
            return "created";
        }
        let at = object.at();
        if let Some(parent) = at.parent()
            && !self.objects.contains_key(&parent)
        {
            self.put(scope(&parent));
        }
        let action = match self.objects.get(&at) {
            Some(live) => {
                apply::inherit(live, &mut object);
                "updated"
            }
            None => "created",
        };
        ready(&mut object);
        self.objects.insert(at, object);
        action
    }

    fn children(&self, at: &ObjectRef) -> usize {
        let above = |o: &&ObjectRef| o.parent().as_ref() == Some(at);
        self.objects.keys().filter(above).count()
    }
}

fn scope(at: &ObjectRef) -> AnyObject {
    let names = at.names();
    let text = match names[..] {
        [r] => format!("kind: Realm\nmetadata: {{name: {r}}}\n"),
        [r, s] => format!("kind: Space\nmetadata: {{name: {s}}}\nspec: {{realmId: {r}}}\n"),
        _ => format!(
            "kind: Stack\nmetadata: {{name: {}}}\nspec: {{realmId: {}, spaceId: {}}}\n",
            names[2], names[0], names[1]
        ),
    };
    apply::read(&[("t", text.as_bytes())]).unwrap().remove(0).1
}

fn ready(object: &mut AnyObject) {
    use crate::model::ScopeState;
    match object {
        AnyObject::Realm(o) => o.status.state = ScopeState::Ready,
        AnyObject::Space(o) => o.status.state = ScopeState::Ready,
        AnyObject::Stack(o) => o.status.state = ScopeState::Ready,
        AnyObject::Cell(o) => {
            o.status.state = CellState::Ready;
            let status = |c: &crate::model::ContainerSpec| ContainerStatus {
                state: ContainerState::Ready,
                ..ContainerStatus::new(c.id.clone())
            };
            o.status.containers = o.spec.containers.iter().map(status).collect();
        }
        AnyObject::Container(_) | AnyObject::Volume(_) | AnyObject::Secret(_) => {}
    }
}

fn external(object: &AnyObject) -> v1::Object {
    let object = match object {
        AnyObject::Realm(o) => object::Object::Realm(scheme::realm_to_external(o, Secrets::Hide)),
        AnyObject::Space(o) => object::Object::Space(scheme::space_to_external(o)),
        AnyObject::Stack(o) => object::Object::Stack(scheme::stack_to_external(o)),
        AnyObject::Cell(o) => object::Object::Cell(scheme::cell_to_external(o)),
        AnyObject::Volume(o) => object::Object::Volume(scheme::volume_to_external(o)),
        AnyObject::Secret(o) => {
            object::Object::Secret(scheme::secret_to_external(o, Secrets::Hide))
        }
        AnyObject::Container(_) => unreachable!("containers are part of their cells"),
    };
    v1::Object {
        object: Some(object),
    }
}

fn event(key: &Key, action: &str, error: Option<Error>) -> Result<v1::Event> {
    let (name, scope) = key.address();
    let result = v1::ResourceResult {
        kind: key.kind().to_owned(),
        name,
        scope: Some(scope),
        action: action.to_owned(),
        error: error.as_ref().map(Into::into),
        ..Default::default()
    };
    Ok(v1::Event {
        event: Some(v1::event::Event::Result(result)),
    })
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "NotFound", "not found")
}

fn stream(events: Vec<Result<v1::Event>>) -> Result<EventStream> {
    Ok(futures::stream::iter(events).boxed())
}

#[async_trait]
impl Kukeon for Fake {
    async fn apply(&self, request: v1::ApplyRequest) -> Result<EventStream> {
        let files = request.files.iter();
        let sources: Vec<_> = files.map(|f| (f.source.as_str(), &f.text[..])).collect();
        let mut events = Vec::new();
        for (_, object) in apply::order(apply::read(&sources)?) {
            let mut state = self.0.lock().unwrap();
            let key = Key::of(&object);
            if state.broken.contains(object.name().as_str()) {
                let error = Error::failed("Broken", format!("{key}: broken"));
                events.push(event(&key, "failed", Some(error)));
                continue;
            }
            let action = state.put(object);
            state.done.push(format!("{action} {key}"));
            events.push(event(&key, action, None));
        }
        stream(events)
    }

    async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse> {
        let state = self.0.lock().unwrap();
        let scope = request.scope.unwrap_or_default();
        let is = |wanted: &str, found: Option<&&crate::model::Name>| {
            wanted.is_empty() || found.is_some_and(|found| **found == *wanted)
        };
        let found = state.objects.iter().filter(|(at, object)| {
            let names = at.names();
            object.kind() == request.kind
                && is(&request.name, names.last())
                && (names.len() < 2 || is(&scope.realm, names.first()))
                && (names.len() < 3 || is(&scope.space, names.get(1)))
                && (names.len() < 4 || is(&scope.stack, names.get(2)))
        });
        let objects: Vec<_> = found.map(|(_, o)| external(o)).collect();
        match objects.is_empty() && !request.name.is_empty() {
            true => Err(not_found()),
            false => Ok(v1::GetResponse {
                objects,
                ..Default::default()
            }),
        }
    }

    async fn delete(&self, request: v1::DeleteRequest) -> Result<EventStream> {
        let result = v1::ResourceResult {
            kind: request.kind,
            name: request.name,
            scope: request.scope,
            ..Default::default()
        };
        let key = Key::of_result(&result).ok_or_else(not_found)?;
        let mut state = self.0.lock().unwrap();
        let at = key.at();
        let error = match &key {
            Key::Container(_, id) => {
                let Some(AnyObject::Cell(cell)) = state.objects.get_mut(&at) else {
                    return Err(not_found());
                };
                cell.spec.containers.retain(|c| c.id != *id);
                None
            }
            Key::Object(_) if state.broken.contains(&result.name) => {
                Some(Error::failed("Broken", "it does not go"))
            }
            Key::Object(_) if state.children(&at) > 0 => Some(Error::new(
                Code::Conflict,
                "ResourceHasDependencies",
                "children",
            )),
            Key::Object(_) => state.objects.remove(&at).is_none().then(not_found),
        };
        if error.is_none() {
            state.done.push(format!("deleted {key}"));
        }
        stream(vec![event(&key, "deleted", error)])
    }

    async fn inspect_image(
        &self,
        request: v1::InspectImageRequest,
    ) -> Result<v1::InspectImageResponse> {
        match self.0.lock().unwrap().images.contains(&request.name) {
            true => Ok(v1::InspectImageResponse::default()),
            false => Err(not_found()),
        }
    }

    async fn pull_image(&self, request: v1::PullImageRequest) -> Result<EventStream> {
        let mut state = self.0.lock().unwrap();
        if state.broken.contains(&request.name) {
            let error = Error::new(Code::Unavailable, "RegistryUnavailable", "no route");
            return stream(vec![Err(error)]);
        }
        state.done.push(format!("pulled {}", request.name));
        state.images.insert(request.name);
        stream(Vec::new())
    }

    async fn logs(&self, _: v1::LogsRequest) -> Result<BoxStream<'static, Result<v1::LogChunk>>> {
        let chunk = v1::LogChunk {
            data: b"cannot open\nthe door\n".to_vec(),
            ..Default::default()
        };
        Ok(futures::stream::iter([Ok(chunk)]).boxed())
    }

    async fn registry_login(
        &self,
        request: v1::RegistryLoginRequest,
    ) -> Result<v1::RegistryLoginResponse> {
        let what = format!("login {} {}", request.name, request.rules.join(" "));
        self.0.lock().unwrap().done.push(what);
        Ok(v1::RegistryLoginResponse {
            name: request.name,
            password: "generated".into(),
            ..Default::default()
        })
    }

    async fn version(&self, _: v1::VersionRequest) -> Result<v1::VersionResponse> {
        unimplemented!("not asked by the target")
    }
    async fn status(&self, _: v1::StatusRequest) -> Result<v1::StatusResponse> {
        unimplemented!("not asked by the target")
    }
    async fn init(&self, _: v1::InitRequest) -> Result<EventStream> {
        unimplemented!("not asked by the target")
    }
    async fn uninstall(&self, _: v1::UninstallRequest) -> Result<EventStream> {
        unimplemented!("not asked by the target")
    }
    async fn mark(&self, _: v1::MarkRequest) -> Result<v1::ResourceResult> {
        unimplemented!("not asked by the target")
    }
    async fn transition(&self, _: v1::TransitionRequest) -> Result<EventStream> {
        unimplemented!("not asked by the target")
    }
    async fn wait(&self, _: v1::WaitRequest) -> Result<v1::WaitResponse> {
        unimplemented!("not asked by the target")
    }
    async fn exec(
        &self,
        _: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>> {
        unimplemented!("not asked by the target")
    }
    async fn list_tags(&self, _: v1::ListTagsRequest) -> Result<v1::ListTagsResponse> {
        unimplemented!("not asked by the target")
    }
    async fn list_images(&self, _: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
        unimplemented!("not asked by the target")
    }
    async fn delete_image(&self, _: v1::DeleteImageRequest) -> Result<v1::DeleteImageResponse> {
        unimplemented!("not asked by the target")
    }
    async fn prune_images(&self, _: v1::PruneImagesRequest) -> Result<v1::PruneImagesResponse> {
        unimplemented!("not asked by the target")
    }
    async fn load_image(
        &self,
        _: BoxStream<'static, Result<v1::LoadImageRequest>>,
    ) -> Result<EventStream> {
        unimplemented!("not asked by the target")
    }
}
