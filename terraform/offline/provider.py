#!/usr/bin/env python3
"""A provider that has nothing but a schema, so that `terraform validate` and `terraform test` (with `mock_provider`)
run without the real one, which is large and has to be downloaded from HashiCorp.

It knows the names and types of arguments, blocks and attributes (schema.json), and no rules of values. Terraform starts
it.
"""

import json
import pathlib
import sys

import tf.provider
import tf.runner
from tf.gen import tfplugin_pb2 as pb

SCHEMA = json.loads((pathlib.Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))

# `write_only = true`: field 11 of an attribute, which the generated classes of `tf` do not know yet.
WRITE_ONLY = bytes([11 << 3, 1])


def attribute(name, description):
    presence = {"optional": True, "computed": True}
    if description.get("computed"):
        presence = {"computed": True}
    elif description["req"]:
        presence = {"required": True}
    elif description.get("write_only"):
        presence = {"optional": True}
    made = pb.Schema.Attribute(name=name, type=json.dumps(description["type"]).encode(), **presence)
    if description.get("write_only"):
        made.MergeFromString(WRITE_ONLY)
    return made


def nested_block(name, description):
    # Only `timeouts` is one object. All others are lists here, even those that are sets in the real schema.
    if name == "timeouts":
        return pb.Schema.NestedBlock(type_name=name, block=block(description), nesting=pb.Schema.NestedBlock.SINGLE)
    return pb.Schema.NestedBlock(
        type_name=name,
        block=block(description),
        nesting=pb.Schema.NestedBlock.LIST,
        min_items=1 if description["required"] else 0,
        max_items=0 if description["many"] else 1,
    )


def block(description):
    return pb.Schema.Block(
        version=0,
        attributes=[attribute(*item) for item in sorted(description["attrs"].items())],
        block_types=[nested_block(*item) for item in sorted(description["blocks"].items())],
    )


class Provider(tf.provider.ProviderServicer):
    def __init__(self, app):
        pass

    def GetMetadata(self, request, context):
        answer = pb.GetMetadata.Response()
        for name in SCHEMA:
            if name.startswith("data."):
                answer.data_sources.append(pb.GetMetadata.DataSourceMetadata(type_name=name.removeprefix("data.")))
            else:
                answer.resources.append(pb.GetMetadata.ResourceMetadata(type_name=name))
        return answer

    def GetProviderSchema(self, request, context):
        region = pb.Schema.Attribute(name="region", type=b'"string"', optional=True)
        answer = pb.GetProviderSchema.Response(provider=pb.Schema(version=0, block=pb.Schema.Block(attributes=[region])))
        for name, description in SCHEMA.items():
            schema = pb.Schema(version=0, block=block(description))
            if name.startswith("data."):
                answer.data_source_schemas[name.removeprefix("data.")].CopyFrom(schema)
            else:
                answer.resource_schemas[name].CopyFrom(schema)
        return answer

    def ValidateProviderConfig(self, request, context):
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return pb.ConfigureProvider.Response()


class App:
    def full_name(self):
        return "aws"


if __name__ == "__main__":
    tf.provider.ProviderServicer = Provider
    tf.runner.run_provider(App(), sys.argv)
