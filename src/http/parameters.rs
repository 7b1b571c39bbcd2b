//! Refuses a query parameter that the call does not have, as `malformed`. A misspelt filter must not answer everything,
//! and a misspelt `dryRun` must not make the change.
//!
//! The OpenAPI document says which parameters a call has, so that no new call can forget the check. The probes are not
//! checked, because programs that watch a node append parameters of their own.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, RefOr};

use super::error::ApiError;
use crate::domain::{Code, Refusal};

/// The parameter in which clients send a new number each time, so that no cache answers. A call that reads takes it.
const CACHE_BUSTER: &str = "_";

/// How many characters of an unknown name the caller is shown.
const SHOWN_CHARACTERS: usize = 64;

/// The names of one call's parameters.
type Names = Vec<String>;

/// Which parameters the calls have, by their paths.
pub(super) struct Parameters {
    paths: HashMap<String, HashMap<Method, Names>>,
}

impl Parameters {
    /// The parameters of the calls that a document describes.
    pub(super) fn of(document: &OpenApi) -> Arc<Self> {
        let paths = document.paths.paths.iter().map(|(path, item)| (path.clone(), names_of_methods(item)));
        Arc::new(Self { paths: paths.collect() })
    }

    /// Refuses the first parameter that the call does not have.
    fn check(&self, path: &str, method: &Method, query: &str) -> Result<(), Refusal> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let method = if reads { &Method::GET } else { method };
        let known = self.paths.get(path).and_then(|methods| methods.get(method)).map_or(&[][..], Vec::as_slice);
        let mut given = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        let unknown = given.find(|name| !(known.iter().any(|known| known == name) || reads && name == CACHE_BUSTER));
        unknown.map_or(Ok(()), |name| Err(no_such_parameter(&name, known)))
    }
}

fn names_of_methods(item: &PathItem) -> HashMap<Method, Names> {
    let operations = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::DELETE, &item.delete),
    ];
    operations.into_iter().filter_map(|(method, call)| Some((method, names_of(call.as_ref()?)))).collect()
}

fn names_of(call: &Operation) -> Names {
    let parameters = call.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
        _ => None,
    });
    parameters.collect()
}

fn no_such_parameter(name: &str, known: &[String]) -> Refusal {
    let name: String = name.chars().take(SHOWN_CHARACTERS).collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    Refusal::because(Code::Malformed, format_args!("{name}: the call has no such parameter; it has {known}"))
}

/// Lets a call through if it has all the query's parameters.
pub(super) async fn check(
    State(parameters): State<Arc<Parameters>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    parameters.check(path.as_str(), request.method(), request.uri().query().unwrap_or_default())?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: Method, query: &str) -> Result<(), String> {
        let names = vec!["sedeId".into(), "after".into()];
        let methods = HashMap::from([(Method::GET, names.clone()), (Method::PUT, names)]);
        let parameters = Parameters { paths: HashMap::from([("/api/spaces".into(), methods)]) };
        parameters.check("/api/spaces", &method, query).map_err(|refusal| refusal.detail)
    }

    #[test]
    fn a_call_takes_its_parameters_under_their_exact_names() {
        for known in ["", "&", "sedeId=1", "after=x&sedeId=1", "sedeId", "sede%49d=1", "&&after=1&"] {
            assert_eq!(checked(Method::GET, known), Ok(()), "{known}");
        }
        for unknown in ["sedeid=1", "sedeId%20=1", "sedeId=1&x", "=1", "sedeId[]=1", "?sedeId=1", "%FF=1", "+=1"] {
            assert!(checked(Method::GET, unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn the_refusal_names_what_is_unknown_and_what_there_is() {
        let detail = "sedeid: the call has no such parameter; it has sedeId, after";
        assert_eq!(checked(Method::GET, "after=1&sedeid=secret&x=1"), Err(detail.into()));
        let detail = checked(Method::GET, &"é".repeat(9_000)).unwrap_err();
        assert!(detail.starts_with(&format!("{}:", "é".repeat(SHOWN_CHARACTERS))), "{detail}");
    }

    #[test]
    fn only_a_call_that_reads_takes_what_keeps_caches_away() {
        assert_eq!(checked(Method::GET, "_=1764567890123&sedeId=1"), Ok(()));
        assert_eq!(checked(Method::HEAD, "_=1"), Ok(()));
        assert!(checked(Method::PUT, "_=1").is_err());
        assert!(checked(Method::GET, "__=1").is_err());
    }

    #[test]
    fn a_call_that_no_document_describes_takes_none() {
        assert!(checked(Method::DELETE, "sedeId=1").is_err());
        assert_eq!(checked(Method::DELETE, ""), Ok(()));
    }
}
