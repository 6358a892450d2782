"""`las`: one thin command a stage, in the order of the data. Heavy imports are inside."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from las_builder import __version__
from las_builder.errors import LasError, LasWarning

if TYPE_CHECKING:
    from las_builder.catalogs import Taxonomy
    from las_builder.core.workspace import Workspace
    from las_builder.recipe import Corpus
    from las_builder.run import Engine

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
Command = Callable[..., None]


class InOrder(click.Group):
    """Commands listed in the order of the data, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they are defined."""
        del ctx
        return list(self.commands)


def main() -> None:
    """Run a command; show a warning or an error of ours as one line, exit with the error's code."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, LasWarning):
            sys.stderr.write(f"las: warning: {message}\n")
        else:
            others(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LasWarning)
        warnings.showwarning = show
        try:
            las()
        except LasError as error:
            sys.stderr.write(f"las: {error}\n")
            raise SystemExit(error.exit_code) from None


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="las")
def las() -> None:
    """Build, look at and publish a corpus of land-cover patches, stage by stage.

    RECIPE is a recipe's file, or the name of one of ours. Every command may be killed at any time
    and given again: what is done is skipped.
    """


def folders_of(words: Sequence[str]) -> dict[str, Path]:
    """{import, or "": folder of its copy} from words like [NAME=]DIR."""
    return {name: Path(folder) for name, _, folder in (word.rpartition("=") for word in words)}


def of_recipe(command: Command) -> Command:
    """Give a command the recipe and what may be said instead of it; it gets `corpus`, `space`."""

    @click.argument("recipe")
    @click.option("--work", type=FOLDER, default=Path("work"), help="Where workspaces are.")
    @click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
    @click.option("--region", help="Instead of the recipe's.")
    @click.option("--seed", type=int, help="Instead of the recipe's.")
    @click.option(
        "--source", metavar="NAME[,OTHER]",
        help="virtual, a provider or a STAC catalogue, instead of the recipe's; labels that it "
        "lacks come from the OTHER.",
    )  # fmt: skip
    @click.option("--count", type=int, help="Sites of every subset, instead of the recipe's.")
    @click.option(
        "--accept-licence", "accepted", metavar="NAME", multiple=True,
        help="You may use NAME, whose licence is non-commercial, restricted or not known.",
    )  # fmt: skip
    @click.option(
        "--folder", "folders", metavar="[NAME=]DIR", multiple=True,
        help="Your copy of an import, instead of the recipe's.",
    )  # fmt: skip
    @functools.wraps(command)
    def with_corpus(
        recipe: str, work: Path, catalogs: Path | None, region: str | None, seed: int | None,
        source: str | None, count: int | None, accepted: tuple[str, ...],
        folders: tuple[str, ...], **rest: Any,
    ) -> None:  # fmt: skip
        from las_builder import recipe as recipes
        from las_builder import run
        from las_builder.catalogs import Catalogs
        from las_builder.core.workspace import Workspace

        corpus = recipes.read(
            recipe,
            catalogs=Catalogs.load(catalogs),
            overrides=recipes.Overrides(
                region=region,
                seed=seed,
                source=source,
                count=rest.get("extend") or count,
                accepted=frozenset(accepted),
                folders=folders_of(folders),
            ),
        )
        space = Workspace(work / corpus.name)
        run.consented(corpus, space)
        corpus = corpus.resuming(space)
        if not rest.get("dry_run") and rest.get("extend") is None:  # which need no other recipe's
            space.verify(corpus.lock())
        command(corpus=corpus, space=space, **rest)

    return with_corpus


def on_engine(command: Command) -> Command:
    """Give a command processes to work with; it gets `engine`."""

    @click.option(
        "--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes."
    )
    @click.option("--scheduler", help="tcp://... of a Dask cluster that exists.")
    @functools.wraps(command)
    def with_engine(workers: int, scheduler: str | None, **rest: Any) -> None:
        from las_builder.run import Engine

        with Engine(workers=workers, scheduler=scheduler) as engine:
            command(engine=engine, **rest)

    return with_engine


give_up = click.option("--give-up", is_flag=True, help="Record sites that fail as failed.")
items = click.option("--items", is_flag=True, help="Also one JSON file an item.")


@las.command()
@of_recipe
def check(corpus: Corpus, space: Workspace) -> None:
    """Say what is wrong with a recipe, without building anything."""
    from las_builder import run

    click.echo(run.check(corpus, space))


@las.command()
@of_recipe
@click.option("--dry-run", is_flag=True, help="Print what every stratum would get; write nothing.")
@click.option(
    "--extend", type=click.IntRange(0), is_flag=False, flag_value=0, metavar="[N]",
    help="Raise the counts of a plan, to N or to the recipe's: sites and splits stay, reserves "
    "become primaries.",
)  # fmt: skip
def sample(corpus: Corpus, space: Workspace, dry_run: bool, extend: int | None) -> None:
    """Draw the sites of the whole corpus: plan.parquet, plan.html and plan.png."""
    from las_builder import run

    if dry_run:
        if extend is not None:
            raise click.UsageError("--dry-run or --extend, not both")
        click.echo(run.allocations(corpus))
        return
    if extend is not None:
        run.require(space.plan, "las sample")
    sites = run.sample(corpus, space) if extend is None else run.extend_plan(corpus, space)
    click.echo(run.summary(corpus, sites))
    click.echo(f"{space.plan}\n{space.plan_page}\n{space.plan_picture}")


@las.command()
@of_recipe
@on_engine
def scenes(corpus: Corpus, space: Workspace, engine: Engine) -> None:
    """Pin the scenes of the next round of sites; nothing after it searches again."""
    from las_builder import run

    run.require(space.plan, "las sample")
    sites = run.sample(corpus, space)
    if not run.scenes(corpus, sites, space, engine):
        click.echo("no further round: nothing is missing, or blocks are undone, or reserves ended")
    click.echo(run.searched(corpus, sites, space))
    click.echo(run.report(corpus, space))


@las.command()
@of_recipe
@click.option(
    "--workers", type=click.IntRange(1), default=os.cpu_count() or 1, help="Of the run to come."
)
def estimate(corpus: Corpus, space: Workspace, workers: int) -> None:
    """Say what `las fetch` will cost: requests, bytes, disk, hours; rough before `las scenes`."""
    from las_builder import run

    click.echo(run.estimate(corpus, space, workers))


@las.command()
@of_recipe
@on_engine
@give_up
@click.option(
    "--retry", type=click.Choice(["failed", "gaps", "consumed"]),
    help="Ask again for sites that were given up, for patches that the provider did not have, or for "
    "images that `las pack --consume` freed.",
)  # fmt: skip
def fetch(
    corpus: Corpus, space: Workspace, engine: Engine, give_up: bool,
    retry: Literal["failed", "gaps", "consumed"] | None,
) -> None:  # fmt: skip
    """Read imagery, validity and raw product codes into the cube."""
    from las_builder import run

    for subset in corpus.subsets:
        run.require(space.subset(subset.name).scenes(0), "las scenes")
    if retry is not None:
        click.echo(f"{run.reopen(corpus, space, retry)} blocks are fetched again")
    run.fetch(corpus, space, engine, give_up=give_up)
    click.echo(run.report(corpus, space))


@las.command()
@of_recipe
@on_engine
@click.option(
    "--reference", type=click.Path(dir_okay=False, path_type=Path),
    help="Points with lon, lat, class, and if known date and weight: CSV, GeoPackage.",
)  # fmt: skip
def audit(corpus: Corpus, space: Workspace, engine: Engine, reference: Path | None) -> None:
    """Say what the label products say of each other, and how right they are: audit/index.html."""
    from las_builder import run

    for subset in corpus.subsets:
        run.require(space.subset(subset.name).blocks, "las fetch")
    click.echo(run.audit(corpus, space, engine, reference))


@las.command()
@of_recipe
@on_engine
@click.option(
    "--reference",
    help="Points to calibrate on: CSV (lon, lat, class[, weight]), GeoPackage, or `virtual`.",
)
def consensus(corpus: Corpus, space: Workspace, engine: Engine, reference: str | None) -> None:
    """Fit what makes one label of several products: consensus.json of each subset.

    `las pack` does it too where it is missing or stale.
    """
    from las_builder import run

    for subset in corpus.subsets:
        run.require(space.subset(subset.name).blocks, "las fetch")
    click.echo(run.consensus(corpus, space, engine, reference=reference))


@las.command()
@of_recipe
@on_engine
@click.option(
    "--into", type=FOLDER, help="Another folder for shards, index.parquet and manifest.json."
)
@click.option(
    "--consume", is_flag=True,
    help="Free the images of the cube that are in shards, once these were read again.",
)  # fmt: skip
def pack(
    corpus: Corpus, space: Workspace, engine: Engine, into: Path | None, consume: bool
) -> None:
    """Harmonise and write WebDataset shards, index.parquet and manifest.json."""
    from las_builder import run

    for subset in corpus.subsets:
        run.require(space.subset(subset.name).scenes(0), "las scenes")
    if consume and into is not None:
        raise click.UsageError("--consume frees what is in the workspace's shards: not with --into")
    click.echo(run.pack(corpus, space, engine, into=into, consume=consume))


@las.command()
@of_recipe
@items
def publish(corpus: Corpus, space: Workspace, items: bool) -> None:
    """Describe the corpus: STAC catalogue, items.parquet, Croissant, dataset card."""
    from las_builder import run

    run.require(space.manifest, "las pack")
    click.echo(run.publish(corpus, space, items=items))


@las.command()
@of_recipe
@on_engine
@give_up
@items
def build(corpus: Corpus, space: Workspace, engine: Engine, give_up: bool, items: bool) -> None:
    """All stages, from sample to publish."""
    from las_builder import run

    click.echo(run.build(corpus, space, engine, give_up=give_up, items=items))


@las.command()
@click.argument("workspace", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("url")
@click.option("--synthetic", is_flag=True, help="It may be made up: others will see it.")
def push(workspace: Path, url: str, synthetic: bool) -> None:
    """Send a published corpus to URL: a folder, s3://..., hf://datasets/OWNER/NAME.

    What is there already is not sent again; given again, it goes on where it was stopped.
    """
    from las_builder import run
    from las_builder.core.workspace import Workspace

    space = Workspace(workspace)
    run.require(space.manifest, "las pack")
    click.echo(run.push(space, url, synthetic=synthetic, told=click.echo))


@las.command()
@click.argument("corpus", metavar="URL")
@click.option("--lmdb", "folder", type=FOLDER, required=True, help="Folder to make.")
@click.option("--subset", help="Of a corpus that has several.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="All by default.")
def export(corpus: str, folder: Path, subset: str | None, split: str | None) -> None:
    """Write a published corpus as LMDB, in the records of the authors of LAS.

    URL: the folder of the corpus, or the address that it was published to.
    """
    from las_builder import run

    click.echo(run.export(corpus, folder, subset=subset, split=split))


@las.command()
@of_recipe
@on_engine
@give_up
@items
@click.option("--sites", "extend", type=click.IntRange(1), metavar="N", help="Of every subset.")
@click.option("--period", help="Another year of the same sites: 2022-01-01/2023-01-01.")
@click.option("--subset", help="That has the sites, of a corpus with several.")
def extend(
    corpus: Corpus, space: Workspace, engine: Engine, give_up: bool, items: bool,
    extend: int | None, period: str | None, subset: str | None,
) -> None:  # fmt: skip
    """Add sites, or another year of the same sites, to a corpus that is built, and build them.

    Shards that are there stay as they are; new ones come after them, as the next version.
    """
    from las_builder import run

    if extend is None and period is None:
        raise click.UsageError("--sites N or --period, or both")
    run.require(space.plan, "las build")
    click.echo(
        run.extend(
            corpus,
            space,
            engine,
            more=extend is not None,
            period=period,
            subset=subset,
            give_up=give_up,
            items=items,
        )
    )


@las.command()
@click.argument("workspace", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--patches", type=click.IntRange(1), default=12, help="Of each subset.")
def look(workspace: Path, patches: int) -> None:
    """Write a contact sheet of packed patches: look.png, look.html in WORKSPACE."""
    from las_builder import run
    from las_builder.core.workspace import Workspace

    space = Workspace(workspace)
    run.require(space.manifest, "las pack")
    for path in run.look(space, patches):
        click.echo(path)


@las.command()
@click.argument("a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=FOLDER, help="Write diff.json, diff.csv, diff.gpkg into this folder.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if a patch differs.")
def diff(a: Path, b: Path, out: Path | None, exit_code: bool) -> None:
    """Say what differs between two packings, patch by patch.

    A and B are workspaces, or folders of `las pack --into`: another taxonomy, other filters or
    decisions, another version.
    """
    from las_builder import run

    said, differs = run.diff(a, b, out)
    click.echo(said)
    if differs and exit_code:
        raise SystemExit(1)


@las.command()
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True)
@click.option("--work", type=FOLDER, default=Path("work"), help="Where workspaces are.")
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
@click.option(
    "--folder", "folders", metavar="[NAME=]DIR", multiple=True, help="Your copy of an import."
)
@click.option("--out", type=FOLDER, help="Of the run; runs/RECIPE by default.")
@click.option("--config", type=FILE, help="YAML with keys of the run: see docs/training.md.")
@click.option("--set", "said", metavar="KEY=VALUE", multiple=True, help="Instead of the file's.")
@click.option("--size", help="nano, small, base or large, instead of the file's.")
@click.option("--steps", type=click.IntRange(1), help="Instead of the file's.")
@click.option("--seed", type=int, help="Instead of the file's.")
@click.option(
    "--init", metavar="TOWER=PATH", multiple=True, help="Official weights: sam2, dofa, georsclip."
)
@click.option("--from", "start", type=FILE, help="A model of `las train` to begin with.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1; cuda where there is one.")
def train(
    recipes: tuple[str, ...], work: Path, catalogs: Path | None, folders: tuple[str, ...],
    out: Path | None, config: Path | None, said: tuple[str, ...], size: str | None,
    steps: int | None, seed: int | None, init: tuple[str, ...], start: Path | None, device: str,
) -> None:  # fmt: skip
    """Train LandSegmenter on the packed subsets of one or more recipes: runs/RECIPE.

    The same command goes on with a run that was killed. Several devices: torchrun -m las_builder.cli
    train RECIPE.
    """
    from las_builder import recipe, run
    from las_builder.catalogs import Catalogs
    from las_builder.core.workspace import Workspace
    from las_builder.run.pack import packed
    from las_builder.train.config import read_config

    settings = read_config(config, said, size=size, steps=steps, seed=seed)
    declared = Catalogs.load(catalogs)
    overrides = recipe.Overrides(folders=folders_of(folders))
    found = [recipe.read(name, catalogs=declared, overrides=overrides) for name in recipes]
    spaces = [Workspace(work / corpus.name) for corpus in found]
    for space in spaces:
        run.require(space.index, "las pack")
    from las_builder.train.start import begin, parse_init

    written = begin(
        [packed(corpus, space) for corpus, space in zip(found, spaces, strict=True)],
        declared.ontology,
        settings,
        out or Path("runs") / found[0].name,
        init=parse_init(init),
        start=start,
        device=device,
        told=click.echo,
    )
    click.echo(f"{written}\n{written.parent / 'report.html'}")


@las.command()
@click.argument("checkpoint", type=FILE)
@click.argument("raster", type=FILE)
@click.option(
    "--classes", required=True,
    help='Names: "water, tree cover|forest, cropland"; | between names of one class.',
)  # fmt: skip
@click.option("-o", "--out", type=FILE, required=True, help="GeoTIFF to write.")
@click.option("--imagery", help="Whose bands they are, e.g. sentinel-2-l2a.")
@click.option("--bands", default="", help="Their names in the raster's order, comma-joined.")
@click.option("--wavelengths", default="", help="Or micrometres, comma-joined, and --level.")
@click.option("--level", type=click.Choice(["toa", "surface", "display"]))
@click.option("--init", metavar="georsclip=PATH", multiple=True, help="Weights of its text tower.")
@click.option("--window", type=click.IntRange(32), default=512, help="Side, pixels.")
@click.option("--overlap", type=click.FloatRange(0, 0.9), default=0.5, help="Of windows.")
@click.option("--batch", type=click.IntRange(1), default=4, help="Windows at once.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1; cuda where there is one.")
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
def predict(
    checkpoint: Path, raster: Path, classes: str, out: Path, imagery: str | None, bands: str,
    wavelengths: str, level: str | None, init: tuple[str, ...], window: int, overlap: float,
    batch: int, device: str, catalogs: Path | None,
) -> None:  # fmt: skip
    """Map a RASTER of any size with a model of `las train`, in classes of your own words.

    Band 1 of the GeoTIFF is the class, with colours and names; band 2 its confidence in percent.
    """
    from las_builder.catalogs import Catalogs
    from las_builder.errors import InputError
    from las_builder.evaluate.predict import bands_of, parse_classes
    from las_builder.evaluate.predict import predict as say
    from las_builder.models.checkpoint import locate
    from las_builder.train.start import best_device, parse_init

    declared = Catalogs.load(catalogs)
    try:
        waves = [float(word) for word in wavelengths.split(",") if word.strip()]
    except ValueError:
        raise InputError(
            "las predict", "--wavelengths", wavelengths, "micrometres, like 0.49,0.56,0.665"
        ) from None
    known = bands_of(
        raster,
        imagery=declared.imagery(imagery, where="las predict", key="--imagery")
        if imagery
        else None,
        bands=[name.strip() for name in bands.split(",") if name.strip()],
        wavelengths=waves,
        level=level,
    )
    towers = parse_init(init, ["georsclip"])
    written = say(
        checkpoint, raster, parse_classes(classes), out, known,
        catalogs=declared,
        text_file=locate(towers["georsclip"]) if "georsclip" in towers else None,
        window=window, overlap=overlap, batch=batch, device=best_device(device),
    )  # fmt: skip
    click.echo(written)


@las.command()
@click.argument("checkpoint", type=FILE, required=False)
@click.argument("benchmarks", nargs=-1)
@click.option(
    "--folder", type=FOLDER, help="Your copies, a folder each; or the copy of the only one."
)
@click.option("--zero-shot", is_flag=True, help="Refuse a checkpoint that was trained there.")
@click.option(
    "--protocol", type=click.Choice(["linear-probe", "fine-tune"]),
    help="Learn from training tiles of the benchmark first.",
)  # fmt: skip
@click.option(
    "--share", type=click.FloatRange(0, 1, min_open=True), default=1.0, help="Of those tiles."
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Of what is drawn of them.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of the fine-tuning.")
@click.option(
    "--baseline", "baselines", multiple=True, type=click.Choice(["closed-set", "majority"]),
    help="Rows beside it.",
)  # fmt: skip
@click.option(
    "--product", "products", multiple=True, type=(str, FILE), metavar="NAME MAP",
    help="A map of a label product, read as a prediction.",
)  # fmt: skip
@click.option(
    "--clip", metavar="PATH", help="A CLIP: rows of it, of ProxyCLIP and of the fusion with it."
)
@click.option(
    "--fusion", "fusions", multiple=True, type=click.Choice(["mean", "max", "omitted", "ungated", "surer"]),
    help="Which rows of fusion; mean by default.",
)  # fmt: skip
@click.option(
    "--proxy", type=click.Choice(["pixels", "neck", "decoded"]), default="pixels",
    help="Which features of the checkpoint ProxyCLIP is given.",
)  # fmt: skip
@click.option("--compare", type=(FILE, FILE), metavar="A.json B.json", help="What B has above A.")
@click.option("-o", "--out", type=FOLDER, default=Path("scores"), help="Of scores.")
@click.option("--init", metavar="georsclip=PATH", multiple=True, help="Weights of its text tower.")
@click.option("--window", type=click.IntRange(32), default=512, help="Side, pixels.")
@click.option("--overlap", type=click.FloatRange(0, 0.9), default=0.5, help="Of windows.")
@click.option("--batch", type=click.IntRange(1), default=4, help="Windows at once.")
@click.option("--device", default="auto", help="cpu, cuda, cuda:1; cuda where there is one.")
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
def evaluate(
    checkpoint: Path | None, benchmarks: tuple[str, ...], folder: Path | None, zero_shot: bool,
    protocol: Literal["linear-probe", "fine-tune"] | None, share: float, seed: int,
    settings: tuple[str, ...],
    baselines: tuple[Literal["closed-set", "majority"], ...],
    products: tuple[tuple[str, Path], ...], clip: str | None, fusions: tuple[str, ...],
    proxy: Literal["pixels", "neck", "decoded"], compare: tuple[Path, Path] | None,
    out: Path, init: tuple[str, ...], window: int, overlap: float, batch: int, device: str,
    catalogs: Path | None,
) -> None:  # fmt: skip
    """Score a CHECKPOINT of `las train` on BENCHMARKS, asked in their own words; or --compare two scores.

    Writes a JSON for each and index.html over all that are in the folder of scores. A run that was
    killed goes on where it was.
    """
    if compare is not None:
        from las_builder.evaluate.score import compare as held

        click.echo(held(*compare))
        return
    if checkpoint is None or not benchmarks or folder is None:
        raise click.UsageError("CHECKPOINT, BENCHMARKS and --folder; or --compare A.json B.json")
    if protocol is None and (share, seed, settings) != (1.0, 0, ()):
        raise click.UsageError("--share, --seed and --set are of --protocol")
    if protocol == "linear-probe" and settings:
        raise click.UsageError("--set is of --protocol fine-tune: a linear probe has no run")
    if protocol and (zero_shot or clip):
        raise click.UsageError(
            "--zero-shot, --clip or --protocol: what learns there is no zero-shot"
        )
    if clip is None and (fusions or proxy != "pixels"):
        raise click.UsageError("--fusion and --proxy are with --clip")
    from las_builder.catalogs import Catalogs
    from las_builder.evaluate.branches import ClipOptions
    from las_builder.evaluate.proxyclip import Proxy
    from las_builder.evaluate.transfer import Transfer
    from las_builder.evaluate.zero_shot import evaluate as run
    from las_builder.models.checkpoint import locate
    from las_builder.train.start import best_device, parse_init

    towers = parse_init(init, ["georsclip"])
    written = run(
        checkpoint, benchmarks, folder, out,
        catalogs=Catalogs.load(catalogs), zero_shot=zero_shot,
        transfer=Transfer(protocol=protocol, share=share, seed=seed, settings=settings)
        if protocol
        else None,
        baselines=baselines, products=products,
        clip=None if clip is None else ClipOptions(
            file=locate(clip), fusions=fusions or ("mean",), proxy=Proxy(embedding=proxy)
        ),
        text_file=locate(towers["georsclip"]) if "georsclip" in towers else None,
        window=window, overlap=overlap, batch=batch, device=best_device(device), told=click.echo,
    )  # fmt: skip
    click.echo("\n".join(str(path) for path in [*written, out / "index.html"]))


@las.command()
@click.argument("product")
@click.argument("code_taxonomy", metavar="[CODE] TAXONOMY", nargs=-1, required=True)
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
def explain(product: str, code_taxonomy: tuple[str, ...], catalogs: Path | None) -> None:
    """Say what becomes of a CODE of a label product in a TAXONOMY, and why; of all of them, as a
    table, without CODE. Level-1, level-2 and so on, with -use for land use, are taxonomies too.
    """
    from las_builder.catalogs import Catalogs
    from las_builder.harmonise.explain import explain as say

    if len(code_taxonomy) > 2:
        raise click.UsageError("PRODUCT [CODE] TAXONOMY")
    declared = Catalogs.load(catalogs)
    legend = declared.label(product, where="las explain", key="PRODUCT")
    name = code_taxonomy[-1]
    taxonomy: Taxonomy | Literal["native"] = "native"
    if name != "native":
        taxonomy = declared.taxonomy(name, where="las explain", key="TAXONOMY")
    code = code_taxonomy[0] if len(code_taxonomy) == 2 else None
    click.echo(say(legend, code, taxonomy, declared.ontology))


@las.command()
@click.option("--work", type=FOLDER, default=Path("work"), help="Where workspaces will be.")
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
@click.option("--live", metavar="PROVIDER", help="Ask it what it says today: 20 requests at most.")
def doctor(work: Path, catalogs: Path | None, live: str | None) -> None:
    """Say what a run will find: versions, disk, credentials, providers; for pasting into an issue."""
    from las_builder.catalogs import Catalogs
    from las_builder.run import doctor as doctors

    declared = Catalogs.load(catalogs)
    click.echo(doctors.live(live, declared) if live else doctors.doctor(work, declared))


@las.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="Where the catalogue goes.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="What the files are; FOLDER/index.yaml by default.",
)
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
def index(folder: Path, out: Path, config: Path | None, catalogs: Path | None) -> None:
    """Turn a folder of rasters into a static STAC catalogue for recipes to name."""
    from las_builder.access.folders import index_folder
    from las_builder.catalogs import Catalogs

    click.echo(index_folder(folder, config, out, catalogs=Catalogs.load(catalogs)))


@las.command()
@click.argument("benchmark")
@click.argument("source", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True,
    help="GeoPackage or GeoParquet to write, for `splits.footprints` of a corpus recipe.",
)  # fmt: skip
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
def footprints(benchmark: str, source: Path, out: Path, catalogs: Path | None) -> None:
    """Say where a benchmark is, from your copy: the rasters in DIR, or an index of its places."""
    from las_builder.catalogs import Catalogs
    from las_builder.run.footprints import footprints as derive

    click.echo(derive(benchmark, source, out, catalogs=Catalogs.load(catalogs)))


@las.command()
@click.option("--at", required=True, help="LON,LAT of the middle, degrees.")
@click.option("--sensor", default="sentinel-2-l2a", help="An imagery source.")
@click.option("--size", type=click.IntRange(8, 4096), default=264, help="Pixels along a side.")
@click.option("--gsd", type=float, help="Metres a pixel, where it is not the sensor's own.")
@click.option("--period", default="2021-05-01/2021-10-01", help="First day / day after the last.")
@click.option("--products", help="Label products, comma-joined; all by default.")
@click.option("--seed", type=int, default=0, help="Which world.")
@click.option("--out", type=FOLDER, default=Path("virtual"), help="Folder to write into.")
@click.option("--catalogs", type=FOLDER, help="Your declarations, looked up before ours.")
def virtual(
    at: str, sensor: str, size: int, gsd: float | None, period: str, products: str | None,
    seed: int, out: Path, catalogs: Path | None,
) -> None:  # fmt: skip
    """Show a place of the virtual Earth: an image, its truth and its label products."""
    from las_builder import run
    from las_builder.access.virtual import VirtualEarth
    from las_builder.catalogs import Catalogs
    from las_builder.core.types import Period
    from las_builder.errors import InputError

    declared = Catalogs.load(catalogs)
    try:
        lon, lat = (float(part) for part in at.split(","))
        if not (-360 <= lon <= 360 and -90 <= lat <= 90):
            raise ValueError
    except ValueError:
        raise InputError("las virtual", "--at", at, "LON,LAT in degrees, like 11.5,48.2") from None
    try:
        days = Period.parse(period)
    except ValueError as problem:
        raise InputError(
            "las virtual", "--period", period, f"2021-05-01/2021-10-01 ({problem})"
        ) from None
    earth = VirtualEarth(declared, seed)
    imagery = declared.imagery(sensor, where="las virtual", key="--sensor")
    names = products.split(",") if products else declared.names("labels")
    chosen = [declared.label(name, where="las virtual", key="--products") for name in names]
    chosen = [product for product in chosen if products or product.at("virtual") is not None]
    for path in run.virtual(
        earth, imagery, chosen, out, at=(lon, lat), size=size, gsd=gsd, period=days
    ):
        click.echo(path)


if __name__ == "__main__":
    main()
