"""Writes schema.json: the names and types of the resources that the modules use, from a published manifest.

    npm pack @cdktn/provider-aws@25.7.0          # types of the AWS provider 6.66.0
    tar xzf cdktn-provider-aws-25.7.0.tgz package/.jsii
    python3 extract_schema.py package/.jsii >schema.json

The resources are those below. The manifest is made from the provider's schema, but it does not tell sets from lists,
nor which values are allowed.
"""

import json
import re
import sys

NAMES = """
aws_cloudwatch_log_group aws_cloudwatch_log_metric_filter aws_cloudwatch_metric_alarm aws_default_security_group aws_eip
aws_elasticache_parameter_group aws_elasticache_replication_group aws_elasticache_subnet_group aws_elasticache_user
aws_elasticache_user_group aws_iam_role aws_iam_role_policy aws_internet_gateway aws_kms_alias aws_kms_key
aws_lambda_function aws_lambda_function_event_invoke_config aws_nat_gateway aws_route aws_route_table
aws_route_table_association aws_scheduler_schedule aws_scheduler_schedule_group aws_security_group aws_sqs_queue
aws_subnet aws_vpc aws_vpc_security_group_egress_rule aws_vpc_security_group_ingress_rule
data.aws_availability_zones data.aws_caller_identity data.aws_partition data.aws_region
""".split()

# Members of every class that belong to Terraform and not to the resource.
META = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners"}

# Names that the manifest's language does not allow.
RENAMED = {"self_attribute": "self"}

PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool"}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        manifest = Manifest(json.load(file)["types"])
    json.dump({name: manifest.resource(name) for name in NAMES}, sys.stdout, sort_keys=True, separators=(",", ":"))
    sys.stdout.write("\n")


class Manifest:
    def __init__(self, types):
        self.types = types

    def resource(self, name):
        words = name.replace("data.aws", "data_aws") if name.startswith("data.") else name.removeprefix("aws_")
        class_name = "".join(word.capitalize() for word in words.split("_"))
        class_name = f"@cdktn/provider-aws.{class_name[0].lower()}{class_name[1:]}.{class_name}"
        block = self.block(class_name + "Config")
        block["attrs"] |= self.computed(class_name, block)
        return block

    def block(self, struct):
        """Arguments and nested blocks of a struct."""
        attributes, blocks = {}, {}
        for member in self.types[struct].get("properties", []):
            name = snake_case(member["name"])
            if name in META:
                continue
            is_required = not member.get("optional", False)
            nested, is_list = self.nested(member["type"])
            if nested:
                blocks[name] = {"many": is_list, "required": is_required} | self.block(nested)
            else:
                attributes[name] = {"type": plain_type(member["type"]), "req": is_required}
                # Write-only arguments are never in a state, so they may take ephemeral values.
                if name.endswith("_wo"):
                    attributes[name]["write_only"] = True
        return {"attrs": attributes, "blocks": blocks}

    def computed(self, class_name, block):
        """What can only be read."""
        found = {}
        for member in self.types[class_name].get("properties", []):
            name = snake_case(member["name"])
            known = name in META or name in block["attrs"] or name in block["blocks"]
            if not known and not member.get("static") and not name.endswith("_input"):
                found[name] = {"type": plain_type(member["type"]), "computed": True}
        return found

    def nested(self, type_):
        """The struct of a nested block, or None, and whether there may be several."""
        if "union" in type_:
            for leg in type_["union"]["types"]:
                found = self.nested(leg)
                if found[0]:
                    return found
        if "collection" in type_:
            return self.nested(type_["collection"]["elementtype"])[0], True
        name = type_.get("fqn", "")
        is_struct = name.startswith("@cdktn/provider-aws.") and self.types[name].get("kind") == "interface"
        return (name if is_struct else None), False


def plain_type(type_):
    if "primitive" in type_:
        return PRIMITIVES.get(type_["primitive"], "dynamic")
    if "collection" in type_:
        kind = "map" if type_["collection"]["kind"] == "map" else "list"
        element = plain_type(type_["collection"]["elementtype"])
        return "dynamic" if element == "dynamic" else [kind, element]
    if "union" in type_:
        legs = [plain_type(leg) for leg in type_["union"]["types"] if leg.get("fqn") != "cdktn.IResolvable"]
        return legs[0] if len(legs) == 1 else "dynamic"
    element = {"cdktn.StringMap": "string", "cdktn.NumberMap": "number", "cdktn.BooleanMap": "bool"}
    name = type_.get("fqn")
    return ["map", element[name]] if name in element else "dynamic"


def snake_case(name):
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    return RENAMED.get(name, name)


if __name__ == "__main__":
    main()
